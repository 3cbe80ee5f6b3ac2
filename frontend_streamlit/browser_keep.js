// Keeps in this browser what the page tells it to, and what is being typed before the page knows of it.
export default function ({ data, setTriggerValue }) {
  const name = `kotoe ${data.owner}`
  const read = () => {
    try {
      return JSON.parse(localStorage.getItem(name)) ?? {}
    } catch {
      return {} // no storage, as in some private windows
    }
  }
  const write = (kept) => {
    try {
      localStorage.setItem(name, JSON.stringify(kept))
    } catch {} // full, or none
  }
  const keepTyped = (kept, element) => {
    const field = data.texts.find((key) => element?.closest(`.st-key-${key}`))
    if (field && kept.draft) kept.draft.fields[field] = element.value
    return kept
  }

  if (data.is_known) {
    const kept = read()
    kept.draft = data.draft
    kept.waiting = { ...kept.waiting, ...data.waiting } // another tab may wait for others
    for (const key of data.done) delete kept.waiting[key]
    write(keepTyped(kept, document.activeElement))
  } else {
    setTriggerValue("told", read())
  }

  const onInput = (event) => write(keepTyped(read(), event.target))
  document.addEventListener("input", onInput)
  return () => document.removeEventListener("input", onInput)
}
