/** Small words for making elements. Text only ever becomes text: what a strange memory calls itself is never taken for markup. */

const svgNamespace = 'http://www.w3.org/2000/svg'

export const byId = (id) => document.getElementById(id)

/** @param of attributes, and children: elements, or text */
export function html(tag, of = {}, ...children) {
  return fill(document.createElement(tag), of, children)
}

export function svg(tag, of = {}, ...children) {
  return fill(document.createElementNS(svgNamespace, tag), of, children)
}

function fill(element, of, children) {
  for (const [name, value] of Object.entries(of)) if (value !== undefined) element.setAttribute(name, String(value))
  element.append(...children.filter((child) => child !== undefined).map((child) => (child instanceof Node ? child : printable(String(child)))))
  return element
}

/** Marks that turn the text around, or hide in it, are shown instead of obeyed. */
export const printable = (text) => text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => `\\u${character.codePointAt(0).toString(16).padStart(4, '0')}`)

export function setText(id, text) {
  const element = byId(id)
  if (element.textContent !== text) element.textContent = text
}

const units = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1000], ['ms', 1]]

/** A duration at the unit that fits it: `120 µs`, `3.4 ms`, `2.1 h`. */
export function duration(ms) {
  const unit = units.find(([, size]) => ms >= size)
  if (unit === undefined) return `${Math.round(ms * 1000)} µs`
  const value = ms / unit[1]
  return `${value.toFixed(value < 100 ? 1 : 0)} ${unit[0]}`
}

/** 1234567 as `1.2 M`. */
export function count(value) {
  const unit = [['G', 1e9], ['M', 1e6], ['k', 1e4]].find(([, size]) => value >= size)
  if (unit === undefined) return value.toLocaleString('en')
  return `${(value / (unit[0] === 'k' ? 1000 : unit[1])).toFixed(1)} ${unit[0]}`
}
