// Hands a file to the user as soon as it arrives, once.
const saved = new Set()

export default async function ({ data }) {
  if (saved.has(data.id)) return
  saved.add(data.id)
  const content = await (await fetch(data.url)).blob() // a browser may refuse a long data URL
  const link = document.createElement("a")
  link.href = URL.createObjectURL(content)
  link.download = data.name
  link.click()
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000)
}
