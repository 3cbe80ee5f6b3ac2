"""Everything that the page says, in Japanese and in English."""

from collections.abc import Mapping
from dataclasses import dataclass

from frontend_streamlit import translation
from frontend_streamlit.clients import backend
from frontend_streamlit.clients import gpu_vm_errors as gpu
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.clients.gpu_vm import BootPhase, VmStatus
from frontend_streamlit.state.draft import MAX_WAITING, TooManyWait

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "kotoe-mini": (
        "青い背景に赤いりんご",
        "夜空のロケット",
        "草原にいる犬",
        "海の中のタコ",
        "白い背景のパンダ",
        "雪の中のペンギン",
    ),
    "glide": (
        "コーギーの油絵",
        "夕焼けの海と一隻の小さな船",
        "雪に覆われた山の湖",
        "木のテーブルの上の青い花瓶",
        "未来都市の夜景、水彩画",
        "秋の森の中の小道",
    ),
}
LONGEST_WAIT_S = 120  # that the backend tells, however long it takes
ENGLISH_EXAMPLES = (  # of what GLIDE draws, where the offline translator knows too few words for it
    "an oil painting of a corgi",
    "a small boat on the sea at sunset",
    "a lake among snowy mountains",
    "a blue vase on a wooden table",
    "a futuristic city at night, watercolor",
    "a path through an autumn forest",
)


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The page in one language; `{}` is filled in by who shows it."""

    tagline: str
    language: str
    draw_view: str
    gallery_view: str
    prompt: str
    prompt_hint: str
    examples: str
    english: str
    english_help: str
    translated_by: Mapping[str, str]
    unknown_words: str
    suggestion: str
    not_drawn: str
    nothing_understood: str
    english_kept: str
    translate_again: str
    undo_translation: str
    model_unknown_words: str
    left_out: str
    experimental: str
    drawable: str
    drawable_kinds: Mapping[str, str]
    drawable_help: str
    weak: str
    comma: str
    people_warning: str
    settings: str
    count: str
    quality: str
    qualities: Mapping[str, str]
    seed_mode: str
    seed_modes: Mapping[str, str]
    seed: str
    advanced: str
    steps: str
    upsample_steps: str
    guidance: str
    guidance_help: str
    sampler: str
    negative: str
    negative_help: str
    draw: str
    nothing_to_draw: str
    submitted: str
    jobs: str
    no_jobs: str
    status: Mapping[str, str]
    stage: Mapping[str, str]
    place: str
    eta: str
    cancel: str
    dismiss: str
    failed: Mapping[str, str]
    try_again: str
    same_prompt: str
    use_settings: str
    download: str
    zip: str
    delete: str
    delete_question: str
    delete_yes: str
    keep: str
    deleted: str
    search: str
    no_pictures: str
    nothing_found: str
    page_of: str
    newer: str
    older: str
    picture: str
    private_link: str
    sign_in: str
    sign_in_text: str
    sign_out: str
    not_allowed: str
    not_on_the_list: str
    backend_state: str
    model_is_loading: str
    retry_in: str
    gpu_asleep: str
    gpu_waking: str
    gpu_elapsed: str
    gpu_phases: Mapping[VmStatus | BootPhase | None, str]
    gpu_failed: str
    gpu_wake_again: str
    errors: Mapping[type[Exception], str]
    surprise: str


JAPANESE = Texts(
    tagline="日本語の文から、絵を。",
    language="English",
    draw_view="描く",
    gallery_view="ギャラリー",
    prompt="描きたいもの",
    prompt_hint="例：青い背景に赤いりんご",
    examples="例をためす",
    english="英語（モデルが読む文。直せます）",
    english_help="絵は、この英語から描かれます。",
    translated_by={
        "offline": "内蔵の翻訳",
        "google": "Google 翻訳",
        "local": "このコンピューターの翻訳モデル",
        "english": "英語のまま",
        "edited": "手直しした英語",
    },
    unknown_words="わからなかった言葉：{}。別の言い方にするか、英語の欄を直してください。",
    suggestion="「{}」は、もしかして「{}」ですか？",
    not_drawn="このモデルが描き分けられない言葉：{}。その部分は絵に出ないか、違って見えます。",
    nothing_understood="描けるものが見つかりませんでした。別の言葉にするか、英語の欄に書いてください。",
    english_kept="日本語が変わりましたが、手直しした英語はそのままです。",
    translate_again="訳し直す",
    undo_translation="訳に戻す",
    model_unknown_words=(
        "このモデルが知らない言葉：{}。その部分は絵に出ません。下の「このモデルが描けるもの」から選んでください。"
    ),
    left_out="このモデルが知らず、絵に出なかった言葉：{}",
    experimental="「{}」は、このモデルがまだうまく描けない描き方です。そのとおりにならないことがあります。",
    drawable="このモデルが描けるもの",
    drawable_kinds={"concept": "もの", "colour": "色", "scene": "場所や時間", "style": "描き方"},
    drawable_help="同じものは四つまで（例：三匹の犬）、違うものは二つまで（例：家の左に猫、犬と猫）描けます。",
    weak="（苦手）",
    comma="、",
    people_warning="GLIDE の公開モデルは人を描けないように訓練されています。人の部分はうまく描けません。",
    settings="設定",
    count="枚数",
    quality="品質",
    qualities={"fast": "速い", "standard": "標準", "high": "高品質"},
    seed_mode="シード",
    seed_modes={"random": "毎回変える", "fixed": "固定する"},
    seed="シードの番号",
    advanced="くわしい設定",
    steps="ステップ数（64×64）",
    upsample_steps="ステップ数（拡大）",
    guidance="文への忠実さ",
    guidance_help="大きいほど文に忠実に、小さいほど自由に描きます。",
    sampler="サンプラー",
    negative="描いてほしくないもの（英語）",
    negative_help="ここに書いたものから離れるように描きます。",
    draw="描く",
    nothing_to_draw="まず、描きたいものを書いてください。",
    submitted="受け付けました。",
    jobs="最近の絵",
    no_jobs="まだ何も描いていません。上に言葉を書いて「描く」を押してください。",
    status={
        "queued": "順番待ち",
        "running": "描いています",
        "succeeded": "できました",
        "failed": "描けませんでした",
        "cancelled": "取り消しました",
    },
    stage={"base": "下描き", "upsample": "仕上げ"},
    place="{}番目",
    eta="あと約{}",
    cancel="取り消す",
    dismiss="閉じる",
    failed={
        "engine_crashed": "描いている途中でサービスが何度か止まりました。設定を軽くして、もう一度ためしてください。",
        "out_of_memory": "メモリーが足りませんでした。枚数を減らして、もう一度ためしてください。",
        "storage_unavailable": "絵の保存先の空き容量が足りませんでした。管理者に知らせてください。",
        "unreadable_request": "描画サービスの版が変わり、この依頼を読めませんでした。もう一度書いてください。",
        "": "描いている途中で問題が起きました。もう一度ためしてください。",
    },
    try_again="もう一度",
    same_prompt="同じ言葉で、別の絵",
    use_settings="この設定を使う",
    download="保存",
    zip="このページの絵を保存（zip）",
    delete="削除",
    delete_question="この絵を削除しますか？ 元には戻せません。",
    delete_yes="削除する",
    keep="キャンセル",
    deleted="削除しました。",
    search="さがす（日本語・英語）",
    no_pictures="まだ絵がありません。「描く」で最初の一枚を描きましょう。",
    nothing_found="「{}」に合う絵はありません。別の言葉でさがしてください。",
    page_of="{} / {} ページ（{}枚）",
    newer="新しい絵",
    older="古い絵",
    picture="絵",
    private_link="このページのリンクがあなたの鍵です。ブックマークしておけば、また同じ絵に戻れます。人に渡さないでください。",
    sign_in="ログイン",
    sign_in_text="続けるにはログインしてください。",
    sign_out="ログアウト",
    not_allowed="ログインを確かめられませんでした。管理者に知らせてください。",
    not_on_the_list="このアカウント（{}）ではこのページを使えません。別のアカウントでログインするか、管理者に頼んでください。",
    backend_state="モデル {}・{}・待ち {}",
    model_is_loading="モデルを読み込んでいます。もうすこしお待ちください。",
    retry_in="約{}後に空きます。",
    gpu_asleep="GPU は眠っています。「描く」を押すと起こします（ふつう3〜5分）。できた絵はギャラリーで見られます。",
    gpu_waking="GPU を起こして、準備ができしだい描きます。",
    gpu_elapsed="{}・{}経過",
    gpu_phases={
        VmStatus.ASLEEP: "GPU は眠っています",
        VmStatus.STOPPING: "眠りにつくところです。そのあと起こします",
        VmStatus.STARTING: "マシンを起こしています",
        VmStatus.UNKNOWN: "状態を確認しています",
        BootPhase.BOOT: "マシンが起動しています",
        BootPhase.DRIVER: "GPU ドライバーを準備しています",
        BootPhase.PULL: "プログラムを取り寄せています",
        BootPhase.LOADING: "モデルを読み込んでいます",
        BootPhase.READY: "準備ができました。つないでいます",
        BootPhase.ERROR: "起動の途中で失敗しました",
        None: "起動しました。つながるのを待っています",
    },
    gpu_failed="GPU マシンの起動が途中で失敗しました。もう一度起こすか、管理者に知らせてください。",
    gpu_wake_again="もう一度起こす",
    errors={
        backend.BackendUnavailable: (
            "描画サービスがいま応答していません。もどりしだい、このページはひとりでに続きます。受け付けた絵はなくならず、"
            "そのあと描かれます。新しく描くときは、もどってから「描く」を押してください。"
        ),
        backend.BackendBroken: (
            "描画サービスの中で問題が起きました。もう一度ためし、続くようなら管理者に知らせてください。"
        ),
        backend.BackendRefusesToken: "このページの認証トークンが描画サービスと合いません。管理者に知らせてください。",
        backend.ModelLoading: "モデルを読み込んでいるところです。1分ほど待って、もう一度「描く」を押してください。",
        backend.BackendRefusesName: (
            "描画サービスは、このページが使うアドレスでは受け付けません。管理者に知らせてください"
            "（BACKEND_PUBLIC_URL か BACKEND_TOKEN）。"
        ),
        backend.StorageUnavailable: (
            "描画サービスの保存場所が使えません（いっぱいか、書き込めないか、こわれています）。管理者に知らせてください。"
        ),
        backend.QueueFull: "いま順番待ちがいっぱいです。少し待って、もう一度「描く」を押してください。",
        backend.LimitReached: (
            "いまは頼める枚数の上限に達しています。順番待ちの絵があれば、できるのを待つか取り消してください。"
            "なければ、時間をおいてください。"
        ),
        backend.ContentRefused: "このサービスでは描けない言葉が入っています。言葉を変えてください。",
        backend.PromptRefused: "この英語では描けません。英語を短くするか、直してください。",
        backend.JobMissing: "その絵はもう描画サービスに残っていません。ギャラリーを見てください。",
        TooManyWait: (
            f"もう{MAX_WAITING}件が GPU を待っています。準備ができるまで待つか、どれかを取り消してください。"
        ),
        GalleryUnavailable: "ギャラリーを開けません。少し待って、もう一度ためしてください。",
        translation.TranslationError: "翻訳できませんでした。「訳し直す」を押すか、英語を直接書いてください。",
        translation.TranslatorMisconfigured: (
            "翻訳の設定に問題があります。管理者に知らせてください。英語を直接書けば描けます。"
        ),
        translation.TranslationDenied: (
            "翻訳サービスに断られました。管理者に権限の確認を頼んでください。英語を直接書けば描けます。"
        ),
        translation.TranslationQuotaExceeded: (
            "翻訳サービスの利用枠を使い切りました。少し待って訳し直すか、英語を直接書いてください。"
        ),
        translation.TranslationTimedOut: (
            "翻訳サービスの返事が間に合いませんでした。「訳し直す」を押すか、英語を直接書いてください。"
        ),
        translation.TranslationUnavailable: (
            "翻訳サービスに接続できません。少し待って訳し直すか、英語を直接書いてください。"
        ),
        translation.TranslationEmpty: "翻訳結果が空でした。別の言い方にするか、英語を直接書いてください。",
        gpu.GpuVmError: "GPU を起こせませんでした。少し待って、もう一度ためしてください。",
        gpu.GpuVmUnreachable: "Google Cloud の返事がありません。少し待って、もう一度ためしてください。",
        gpu.GpuVmMissing: "設定された GPU マシンが見つかりません。管理者に FRONTEND_GPU_VM を直してもらってください。",
        gpu.GpuVmBusy: "GPU マシンは起動または停止の途中です。少し待って、もう一度ためしてください。",
        gpu.GpuCredentialsMissing: (
            "このページには Google Cloud のアカウントがありません。管理者にログインの設定を頼んでください。"
        ),
        gpu.GpuPermissionMissing: (
            "このページには GPU マシンを起こす権限がありません。管理者に Compute Engine の権限を頼んでください。"
        ),
        gpu.GpuQuotaMissing: (
            "このプロジェクトの GPU の割り当て（クォータ）が足りません。管理者に増やす申請を頼んでください。"
        ),
        gpu.GpuOutOfStock: (
            "このゾーンの GPU がいま品切れです。数分待ってもう一度ためすか、管理者に別のゾーンを頼んでください。"
        ),
    },
    surprise="思わぬ問題が起きました。ページを読み込み直してください。書いた言葉は残ります。",
)

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
    people_warning="GLIDE's public model was trained not to draw people. They will not come out well.",
    settings="Settings",
    count="Pictures",
    quality="Quality",
    qualities={"fast": "fast", "standard": "standard", "high": "high"},
    seed_mode="Seed",
    seed_modes={"random": "new each time", "fixed": "fixed"},
    seed="Seed number",
    advanced="More settings",
    steps="Steps (64×64)",
    upsample_steps="Steps (enlarging)",
    guidance="Closeness to the text",
    guidance_help="High follows the text closely, low draws more freely.",
    sampler="Sampler",
    negative="What to stay away from (English)",
    negative_help="The picture is pushed away from this.",
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
    stage={"base": "sketch", "upsample": "finish"},
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
    retry_in="There is room again in about {}.",
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
    surprise="Something unexpected happened. Reload the page; what you wrote stays.",
)

LANGUAGES: Mapping[str, Texts] = {"ja": JAPANESE, "en": ENGLISH}


def sentence_for(error: Exception, texts: Texts) -> str:
    """What the page says about an error: the sentence of its class, or of the nearest class above it."""
    sentence = next((texts.errors[kind] for kind in type(error).__mro__ if kind in texts.errors), texts.surprise)
    wait_s = error.retry_after_s if isinstance(error, backend.QueueFull | backend.LimitReached) else None
    if wait_s is None or wait_s >= LONGEST_WAIT_S:
        return sentence
    return sentence + ("" if texts is JAPANESE else " ") + texts.retry_in.format(duration(wait_s, texts))


def duration(seconds: float, texts: Texts) -> str:
    """A time to wait, rounded as people say it."""
    in_japanese = texts is JAPANESE
    if seconds < 59.5:
        return f"{max(1, round(seconds))}秒" if in_japanese else f"{max(1, round(seconds))} s"
    return f"{max(1, round(seconds / 60))}分" if in_japanese else f"{max(1, round(seconds / 60))} min"
