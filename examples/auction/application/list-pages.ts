/** The pages of what is one's own: bids in progress, cart, watch list, receipts, account. */
import type { Bid, ItemSummary, Purchase } from '../database/catalogue.js'
import { html, type Html } from './html.js'
import { button, form, page, type Frame } from './layout.js'
import { leastBid, picture } from './pages.js'
import { money } from './visit.js'

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0)

const nothing = (text: string): Html => html`<div class="box empty"><p>${text}</p><p><a class="button" href="/categories">Look around</a></p></div>`

/** An item as one row of a list. */
const row = (item: ItemSummary, facts: Html, buttons: readonly Html[]): Html => html`
  <li>${picture(item, 'small')}<div class="grow"><a class="title" href="/item/${item.id}">${item.title}</a>${facts}</div>${buttons}</li>`

export function bidsPage(frame: Frame, items: readonly ItemSummary[]): Html {
  const rows = frame.visit.drafts.flatMap(({ item: id, cents }) => {
    const item = items.find((each) => each.id === id)
    if (item === undefined) return []
    const isLow = cents < leastBid(item)
    const facts = html`<span data-row="draft" data-item="${id}" data-cents="${cents}">You would bid <b>${money(cents)}</b>. ${isLow ? html`<span class="warning">That has become too low.</span>` : html`<span class="faint">The next bid is ${money(leastBid(item))} or more.</span>`}</span>`
    return [row(item, facts, [form(frame, '/place', { item: id }, button('Place bid')), form(frame, '/discard', { item: id }, button('Discard', 'quiet'))])]
  })
  return page(frame, { name: 'bids', title: 'Bids in progress', content: html`<h1>Bids in progress</h1>${rows.length > 0 ? html`<ul class="rows">${rows}</ul>` : nothing('You have entered no bid.')}` })
}

export function cartPage(frame: Frame, items: readonly ItemSummary[]): Html {
  const lines = frame.visit.cart.flatMap((line) => {
    const item = items.find(({ id }) => id === line.item)
    return item ? [{ ...line, of: item, cents: (item.buyNowCents ?? 0) * line.quantity }] : []
  })
  const rows = lines.map(({ item, quantity, of, cents }) =>
    row(of, html`<span data-row="line" data-item="${item}" data-quantity="${quantity}" data-cents="${cents}" class="faint">${quantity} × ${money(of.buyNowCents ?? 0)} = ${money(cents)}</span>`, [form(frame, '/remove', { item }, button('Remove', 'quiet'))]))
  const total = sum(lines.map(({ cents }) => cents))
  const checkout = html`<div class="total"><span data-row="total" data-cents="${total}">Together <b class="price">${money(total)}</b></span>${form(frame, '/checkout', {}, button('Buy now'))}</div>`
  return page(frame, { name: 'cart', title: 'Cart', content: html`<h1>Cart</h1>${rows.length > 0 ? html`<ul class="rows">${rows}</ul>${checkout}` : nothing('Your cart is empty.')}` })
}

export function watchPage(frame: Frame, items: readonly ItemSummary[]): Html {
  const rows = items.map((item) =>
    row(item, html`<span data-row="watched" data-item="${item.id}" class="faint">${item.highestCents === null ? 'Starts at' : 'Highest bid'} ${money(item.highestCents ?? item.startCents)}</span>`, [form(frame, '/unwatch', { item: item.id }, button('Stop watching', 'quiet'))]))
  return page(frame, { name: 'watchlist', title: 'Watch list', content: html`<h1>Watch list</h1>${rows.length > 0 ? html`<ul class="rows">${rows}</ul>` : nothing('You watch nothing.')}` })
}

const purchaseTable = (purchases: readonly Purchase[]): Html => html`
  <table><thead><tr><th>Item</th><th class="number">Pieces</th><th class="number">Price</th></tr></thead><tbody>${purchases.map(
    ({ key, item, title, quantity, cents }) => html`<tr data-row="purchase" data-key="${key}" data-item="${item}" data-quantity="${quantity}" data-cents="${cents}"><td><a href="/item/${item}">${title}</a></td><td class="number">${quantity}</td><td class="number">${money(cents)}</td></tr>`)}
  </tbody><tfoot><tr data-row="total" data-cents="${sum(purchases.map(({ cents }) => cents))}"><td>Together</td><td class="number">${sum(purchases.map(({ quantity }) => quantity))}</td><td class="number"><b>${money(sum(purchases.map(({ cents }) => cents)))}</b></td></tr></tfoot></table>`

export const receiptPage = (frame: Frame, purchases: readonly Purchase[]): Html =>
  page(frame, { name: 'receipt', title: 'Receipt', content: html`<h1>Receipt</h1>${purchases.length > 0 ? purchaseTable(purchases) : html`<p>Nothing was bought.</p>`}<p><a href="/me">All that you have bought</a></p>` })

export function mePage(frame: Frame, bids: readonly Bid[], purchases: readonly Purchase[], items: readonly ItemSummary[]): Html {
  const bidRows = bids.map(({ item, title, cents }) => html`<tr data-row="bid" data-item="${item}" data-cents="${cents}"><td><a href="/item/${item}">${title}</a></td><td class="number">${money(cents)}</td></tr>`)
  const itemRows = items.map((item) => html`<tr data-row="own" data-item="${item.id}" data-title="${item.title}"><td><a href="/item/${item.id}">${item.title}</a></td><td class="number">${item.bids}</td><td class="number">${money(item.highestCents ?? item.startCents)}</td></tr>`)
  return page(frame, {
    name: 'me', title: 'About me',
    content: html`<h1>${frame.visit.user?.name}</h1>
      <h2>Bids placed</h2>${bids.length > 0 ? html`<table><thead><tr><th>Item</th><th class="number">Your bid</th></tr></thead><tbody>${bidRows}</tbody></table>` : html`<p class="faint">None yet.</p>`}
      <h2>Bought</h2>${purchases.length > 0 ? purchaseTable(purchases) : html`<p class="faint">Nothing yet.</p>`}
      <h2>For sale</h2>${items.length > 0 ? html`<table><thead><tr><th>Item</th><th class="number">Bids</th><th class="number">Price</th></tr></thead><tbody>${itemRows}</tbody></table>` : html`<p class="faint">Nothing. <a href="/sell">Sell an item</a></p>`}`,
  })
}
