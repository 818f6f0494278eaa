/** Things to make pages of. */
import type { Bid, Item } from '../database/catalogue.js'
import type { Frame } from '../application/layout.js'
import { emptyVisit, type Visit } from '../application/visit.js'

export const item: Item = {
  id: 7, title: 'Brass <globe> & "stand"', category: 2, startCents: 500, buyNowCents: 2000, stock: 3, highestCents: 900, bids: 2,
  description: 'Old.', seller: 'seller-1', categoryName: 'Maps', endsAt: new Date('2030-01-01T00:00:00Z'),
}

export const bid = (bidder: string, cents: number): Bid => ({ item: item.id, title: item.title, bidder, cents, placedAt: new Date('2029-12-24T10:00:00Z') })

export function frameOf(visit: Partial<Visit> = {}): Frame {
  let keys = 0
  return { visit: { ...emptyVisit, ...visit }, node: 'a', newKey: () => `key-of-the-form-${++keys}`, done: undefined }
}
