/** What the forms send, checked. */
import { badRequest } from './reply.js'

const mostCents = 100_000_000
const mostPieces = 5
const controls = /\p{Cc}+/gu

/** @throws RefusedRequest */
export function wholeNumber(form: URLSearchParams, field: string, low: number, high: number): number {
  const text = form.get(field) ?? ''
  const value = Number(text)
  if (/^\d{1,10}$/.test(text) && value >= low && value <= high) return value
  throw badRequest(`${field} has to be a whole number from ${low} to ${high}`)
}

export const itemIn = (form: URLSearchParams): number => wholeNumber(form, 'item', 1, 2 ** 31 - 1)
export const quantityIn = (form: URLSearchParams): number => wholeNumber(form, 'quantity', 1, mostPieces)

/** An amount as people write it: 12, 12.5 or 12.50. @throws RefusedRequest */
export function centsIn(form: URLSearchParams, field: string): number {
  const found = /^\s*(\d{1,7})(?:[.,](\d{1,2}))?\s*$/.exec(form.get(field) ?? '')
  const cents = Number(found?.[1]) * 100 + Number((found?.[2] ?? '').padEnd(2, '0'))
  if (found && cents > 0 && cents <= mostCents) return cents
  throw badRequest(`${field} has to be an amount, like 12.50`)
}

/** @throws RefusedRequest */
export function textIn(form: URLSearchParams, field: string, most: number): string {
  const text = (form.get(field) ?? '').replace(controls, ' ').trim()
  if (text.length > 0 && text.length <= most) return text
  throw badRequest(`${field} has to have 1 to ${most} letters`)
}

/** The key that came with the form's page. @throws RefusedRequest */
export function keyIn(form: URLSearchParams): string {
  const key = form.get('key') ?? ''
  if (/^[\w-]{16,40}$/.test(key)) return key
  throw badRequest('the form has no key: it did not come from this site')
}
