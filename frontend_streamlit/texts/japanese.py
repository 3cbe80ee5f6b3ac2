"""What the page says, in Japanese."""

from frontend_streamlit import translation
from frontend_streamlit.clients import backend
from frontend_streamlit.clients import gpu_vm_errors as gpu
from frontend_streamlit.clients.gallery import GalleryUnavailable
from frontend_streamlit.clients.gpu_vm import BootPhase, VmStatus
from frontend_streamlit.state.waiting import MAX_WAITING, TooManyWait
from frontend_streamlit.texts import Texts

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
    between_facts="・",
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
    seconds="{}秒",
    minutes="{}分",
    retry_in="{}約{}後に空きます。",
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
    unexpected_error="思わぬ問題が起きました。ページを読み込み直してください。書いた言葉は残ります。",
)
