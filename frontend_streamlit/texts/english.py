"""What the page says, in English."""

from frontend_streamlit import translation
from frontend_streamlit.clients import backend
from frontend_streamlit.clients import gpu_vm_errors as gpu
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.clients.gpu_vm import BootPhase, VmStatus
from frontend_streamlit.state.waiting import MAX_WAITING, TooManyWait
from frontend_streamlit.texts import Texts

ENGLISH = Texts(
    tagline="Pictures from a sentence.",
    language="日本語",
    draw_view="Draw",
    gallery_view="Gallery",
    prompt="What to draw",
    prompt_hint="for example: 青い背景に赤いりんご, or English",
    examples="Try an example",
    english="English (what the model reads; you may change it)",
    english_help="The picture is made from this text.",
    translated_by={
        "offline": "built-in translator",
        "google": "Google Translate",
        "local": "translation model on this machine",
        "english": "already English",
        "edited": "your English",
    },
    unknown_words="Not understood: {}. Say it another way, or write the English yourself.",
    suggestion='Instead of "{}", did you mean "{}"?',
    not_drawn="More than this model can draw: {}. It will be missing or look different.",
    nothing_understood="Nothing that can be drawn was found. Use other words, or write the English yourself.",
    english_kept="The Japanese has changed; the English that you edited was kept.",
    translate_again="Translate again",
    undo_translation="Back to the translation",
    model_unknown_words=(
        "Words that this model does not know: {}. They will be missing; choose from what it can draw, below."
    ),
    left_out="Words that this model does not know and left out: {}",
    experimental='"{}" is something that this model does not draw well yet. It may come out otherwise.',
    drawable="What this model can draw",
    drawable_kinds={"concept": "Things", "colour": "Colours", "scene": "Places and times", "style": "Styles"},
    drawable_help="Up to four of a thing (three dogs), or two things (a cat to the left of a house, a dog and a cat).",
    weak=" (weak)",
    comma=", ",
    draw="Draw",
    nothing_to_draw="First say what to draw.",
    submitted="Accepted.",
    jobs="Recent pictures",
    no_jobs='Nothing drawn yet. Write something above and press "Draw".',
    status={
        "queued": "waiting",
        "running": "drawing",
        "succeeded": "done",
        "failed": "could not be drawn",
        "cancelled": "cancelled",
    },
    between_facts=", ",
    place="number {}",
    eta="about {} left",
    cancel="Cancel",
    dismiss="Close",
    failed={
        "engine_crashed": "The service stopped repeatedly while it drew this. Try again with lighter settings.",
        "out_of_memory": "There was not enough memory. Try again with fewer pictures.",
        "storage_unavailable": "There was no room to keep the pictures. Tell the operator.",
        "unreadable_request": "Another version of the service wrote this request: please write it again.",
        "": "Something went wrong while drawing. Try again.",
    },
    try_again="Try again",
    same_prompt="Same words, new picture",
    use_settings="Use these settings",
    download="Save",
    zip="Save this page (zip)",
    delete="Delete",
    delete_question="Delete this picture? It can't be undone.",
    delete_yes="Delete",
    keep="Keep",
    deleted="Deleted.",
    search="Search (Japanese or English)",
    no_pictures='No pictures yet. Make the first one under "Draw".',
    nothing_found='No picture matches "{}". Try other words.',
    page_of="page {} of {} ({} pictures)",
    newer="Newer",
    older="Older",
    picture="Picture",
    private_link="This page's link is your key: bookmark it to come back to your pictures, and keep it secret.",
    sign_in="Sign in",
    sign_in_text="Please sign in to go on.",
    sign_out="Sign out",
    not_allowed="Your sign-in could not be verified. Tell the operator.",
    not_on_the_list="This account ({}) can't use this page. Sign in with another one, or ask the operator.",
    backend_state="model {} · {} · waiting {}",
    model_is_loading="The model is being loaded. A moment, please.",
    seconds="{} s",
    minutes="{} min",
    retry_in="{} There is room again in about {}.",
    gpu_asleep='The GPU is asleep. "Draw" wakes it (3 to 5 minutes as a rule). Finished pictures are in the gallery.',
    gpu_waking="Waking the GPU; this is drawn as soon as it is ready.",
    gpu_elapsed="{} · {} so far",
    gpu_phases={
        VmStatus.ASLEEP: "The GPU is asleep",
        VmStatus.STOPPING: "It is going to sleep; then it will be woken",
        VmStatus.STARTING: "Waking the machine",
        VmStatus.UNKNOWN: "Checking its state",
        BootPhase.BOOT: "The machine boots",
        BootPhase.DRIVER: "Preparing the GPU driver",
        BootPhase.PULL: "Fetching the program",
        BootPhase.LOADING: "Loading the model",
        BootPhase.READY: "Ready; connecting",
        BootPhase.ERROR: "The start failed half-way",
        None: "It runs; waiting for an answer",
    },
    gpu_failed="The GPU machine's start failed half-way. Wake it again, or tell the operator.",
    gpu_wake_again="Wake it again",
    errors={
        backend.BackendUnavailable: (
            "The drawing service does not answer just now. This page goes on by itself as soon as it does, and draws "
            'what was accepted; for something new, press "Draw" then.'
        ),
        backend.BackendBroken: "Something went wrong inside the drawing service. Try again, or tell the operator.",
        backend.BackendRefusesToken: "This page's token does not fit the drawing service. Tell the operator.",
        backend.ModelLoading: 'The model is being loaded. Wait a minute and press "Draw" again.',
        backend.BackendRefusesName: (
            "The drawing service does not answer to the address that this page uses. Tell the operator "
            "(BACKEND_PUBLIC_URL or BACKEND_TOKEN)."
        ),
        backend.StorageUnavailable: (
            "The drawing service can't use its storage: it is full, read-only or damaged. Tell the operator."
        ),
        backend.QueueFull: 'The queue is full just now. Wait a little and press "Draw" again.',
        backend.LimitReached: (
            "You have asked for as much as is allowed for now. Wait for a picture or cancel one, or come back later."
        ),
        backend.ContentRefused: "There is a word that this service does not draw. Change it.",
        backend.PromptRefused: "This English can't be drawn. Make it shorter or change it.",
        backend.JobMissing: "The drawing service no longer has that picture. Look into the gallery.",
        TooManyWait: f"{MAX_WAITING} requests wait for the GPU already. Wait until it is ready, or cancel one.",
        GalleryUnavailable: "The gallery can't be opened. Wait a little and try again.",
        translation.TranslationError: "It could not be translated. Try again, or write the English yourself.",
        translation.TranslatorMisconfigured: (
            "The translator is not set up right: tell the operator. You can write the English yourself."
        ),
        translation.TranslationDenied: (
            "The translation service refuses this page: tell the operator. You can write the English yourself."
        ),
        translation.TranslationQuotaExceeded: (
            "The translation quota is used up. Try again later, or write the English yourself."
        ),
        translation.TranslationTimedOut: (
            "The translation service did not answer in time. Try again, or write the English yourself."
        ),
        translation.TranslationUnavailable: (
            "The translation service can't be reached. Try again later, or write the English yourself."
        ),
        translation.TranslationEmpty: "The translation was empty. Use other words, or write the English yourself.",
        gpu.GpuVmError: "The GPU could not be woken. Wait a little and try again.",
        gpu.GpuVmUnreachable: "Google Cloud does not answer. Wait a little and try again.",
        gpu.GpuVmMissing: "The configured GPU machine does not exist. Ask the operator to correct FRONTEND_GPU_VM.",
        gpu.GpuVmBusy: "The GPU machine is changing its state. Wait a little and try again.",
        gpu.GpuCredentialsMissing: "This page has no Google Cloud account. Ask the operator to set up its login.",
        gpu.GpuPermissionMissing: (
            "This page has no permission to wake the GPU machine. Ask the operator for Compute Engine rights."
        ),
        gpu.GpuQuotaMissing: "The project's GPU quota is too small. Ask the operator to request more.",
        gpu.GpuOutOfStock: (
            "This zone is out of GPUs just now. Try again in some minutes, or ask the operator for another zone."
        ),
    },
    unexpected_error="Something unexpected happened. Reload the page; what you wrote stays.",
)
