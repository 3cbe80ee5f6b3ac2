// Stores in this browser what the page asks it to, and what is being typed before the page knows of it.
let name = "" // in the browser's storage
let texts = [] // keys of the fields that are typed into
const before = {} // what stood in a field when typing in it began

const read = () => {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? {}
  } catch {
    return {} // no storage, as in some private windows
  }
}
const write = (stored) => {
  try {
    localStorage.setItem(name, JSON.stringify(stored))
  } catch {} // full, or none
}
const fieldOf = (element) => texts.find((key) => element?.closest(`.st-key-${key}`))

// Once, for as long as this page is open: Streamlit does not clean up after a component whose data has changed.
document.addEventListener("focusin", ({ target }) => {
  const field = fieldOf(target)
  if (field) before[field] = target.value
})
document.addEventListener("input", ({ target }) => {
  const field = fieldOf(target)
  if (!field) return
  const stored = read()
  const since = field in (stored.typed ?? {}) ? stored.since : { ...stored.since, [field]: before[field] }
  write({ ...stored, typed: { ...stored.typed, [field]: target.value }, since })
})

export default function ({ data, setTriggerValue }) {
  name = `kotoe ${data.owner}`
  texts = data.texts
  if (!data.is_known) {
    setTriggerValue("stored", read())
    return
  }
  const stored = read()
  const waiting = { ...stored.waiting, ...data.waiting } // another tab may wait for others
  for (const key of data.done) delete waiting[key]
  const typed = {}
  const since = {}
  const keep = (field, value) => {
    typed[field] = value
    since[field] = before[field] = data.draft.fields[field]
  }
  for (const [field, value] of Object.entries(stored.typed ?? {})) {
    if (stored.since?.[field] === data.draft.fields[field]) keep(field, value) // the page has not heard of it yet
  }
  const active = fieldOf(document.activeElement)
  if (active) keep(active, document.activeElement.value)
  write({ draft: data.draft, typed, since, waiting })
}
