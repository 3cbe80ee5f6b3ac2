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
  const typedInto = (element) => {
    const field = data.texts.find((key) => element?.closest(`.st-key-${key}`))
    return field ? { [field]: element.value } : {}
  }

  if (data.is_known) {
    const waiting = { ...read().waiting, ...data.waiting } // another tab may wait for others
    for (const key of data.done) delete waiting[key]
    write({ draft: data.draft, typed: typedInto(document.activeElement), waiting })
  } else {
    setTriggerValue("told", read())
  }

  const onInput = ({ target }) => {
    const kept = read()
    write({ ...kept, typed: { ...kept.typed, ...typedInto(target) } })
  }
  document.addEventListener("input", onInput)
  return () => document.removeEventListener("input", onInput)
}
