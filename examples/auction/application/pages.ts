/** The pages of the catalogue, and the forms of one item. Rows that programs read carry `data-row`. */
import type { Bid, Category, Item, ItemSummary } from '../database/catalogue.js'
import { pageLength } from '../database/catalogue.js'
import { html, type Html } from './html.js'
import { button, form, page, type Frame } from './layout.js'
import { money } from './visit.js'

export type { Frame } from './layout.js'

export interface FullItem {
  readonly item: Item
  /** The highest bid first. */
  readonly history: readonly Bid[]
}

/** A bid has to be so much more than the one before. */
export const leastStepCents = 50

export const leastBid = ({ highestCents, startCents }: ItemSummary): number => (highestCents === null ? startCents : highestCents + leastStepCents)
const amount = (cents: number): string => (cents / 100).toFixed(2)
const priceOf = ({ highestCents, startCents }: ItemSummary): number => highestCents ?? startCents
const bidsText = (bids: number): string => (bids === 0 ? 'no bids yet' : bids === 1 ? '1 bid' : `${bids} bids`)

/** There are no photographs: a colour and a letter of its own for each item. */
export const picture = ({ id, title }: { readonly id: number; readonly title: string }, size = ''): Html =>
  html`<span class="picture ${size}" aria-hidden="true" style="--hue: ${(id * 47) % 360}">${title.split(' ').at(-1)?.[0]?.toUpperCase()}</span>`

const card = (item: ItemSummary): Html => html`
  <a class="card" href="/item/${item.id}" data-row="item" data-id="${item.id}" data-cents="${priceOf(item)}" data-bids="${item.bids}" data-buy-now="${item.buyNowCents}">
    ${picture(item)}
    <span class="title">${item.title}</span>
    <span class="price">${money(priceOf(item))}</span>
    <span class="faint">${bidsText(item.bids)}</span>
  </a>`

const categoryLinks = (categories: readonly Category[]): Html => html`<ul class="chips">${categories.map(
  ({ id, name, items }) => html`<li><a href="/category/${id}" data-row="category" data-id="${id}">${name} <b>${items}</b></a></li>`)}</ul>`

export const homePage = (frame: Frame, busiest: readonly ItemSummary[], categories: readonly Category[]): Html =>
  page(frame, {
    name: 'home', title: 'Auctions',
    content: html`
      <section class="hero"><h1>Things with a past,<br>for people with a plan</h1><p>Bid, buy, and sell. Whatever happens to our machines, your bids are safe.</p></section>
      <h2>Most wanted</h2><div class="cards">${busiest.map(card)}</div>
      <h2>Categories</h2>${categoryLinks(categories)}`,
  })

export const categoriesPage = (frame: Frame, categories: readonly Category[]): Html => page(frame, { name: 'categories', title: 'Categories', content: html`<h1>Categories</h1>${categoryLinks(categories)}` })

export const categoryPage = (frame: Frame, category: Category, items: readonly ItemSummary[], at: number): Html =>
  page(frame, {
    name: 'category', title: category.name,
    content: html`
      <p class="crumbs"><a href="/categories">Categories</a></p><h1>${category.name}</h1>
      <div class="cards">${items.map(card)}</div>
      <p class="pager">${at > 0 && html`<a href="/category/${category.id}?page=${at - 1}">Newer</a>`} ${items.length === pageLength && html`<a href="/category/${category.id}?page=${at + 1}">Older</a>`}</p>`,
  })

const clock = (at: Date): string => at.toISOString().slice(11, 19)

const historyTable = (history: readonly Bid[]): Html => (history.length === 0 ? html`<p class="faint">Nobody has bid yet. The first bid is yours to make.</p>` : html`
  <table><thead><tr><th>Bidder</th><th class="number">Amount</th><th class="number">Time (UTC)</th></tr></thead><tbody>${history.map(
    ({ bidder, cents, placedAt }) => html`<tr data-row="bid" data-bidder="${bidder}" data-cents="${cents}"><td>${bidder}</td><td class="number">${money(cents)}</td><td class="number faint">${clock(placedAt)}</td></tr>`)}
  </tbody></table>`)

function buyForm(frame: Frame, { id, buyNowCents, stock }: Item): Html | false {
  if (buyNowCents === null) return false
  if (stock === 0) return html`<p class="faint">All pieces that could be bought at once are sold.</p>`
  const fields = html`<p>Or buy it at once for <b>${money(buyNowCents)}</b> <span class="faint">(${stock} left)</span></p><div class="line">
    <select name="quantity" aria-label="Quantity">${[1, 2, 3].map((n) => html`<option>${n}</option>`)}</select>${button('Put into cart', 'second')}</div>`
  return form(frame, '/add', { item: id }, fields, 'box')
}

export function itemPage(frame: Frame, { item, history }: FullItem): Html {
  const isWatched = frame.visit.watched.includes(item.id)
  const watch = isWatched ? form(frame, '/unwatch', { item: item.id }, button('Stop watching', 'quiet')) : form(frame, '/watch', { item: item.id }, button('Watch', 'quiet'))
  return page(frame, {
    name: 'item', title: item.title,
    content: html`
      <p class="crumbs"><a href="/categories">Categories</a> <a href="/category/${item.category}">${item.categoryName}</a></p>
      <div class="split" data-row="shown" data-id="${item.id}" data-title="${item.title}" data-cents="${priceOf(item)}" data-bids="${history.length}" data-least="${leastBid(item)}" data-buy-now="${item.buyNowCents}" data-stock="${item.stock}">
        ${picture(item, 'large')}
        <div>
          <h1>${item.title}</h1><p>${item.description}</p>
          <p class="faint">Sold by ${item.seller}, until ${item.endsAt.toUTCString().slice(0, 22)} UTC</p>
          <div class="box"><p class="now">${item.highestCents === null ? 'Starts at' : 'Highest bid'} <b class="price">${money(priceOf(item))}</b> <span class="faint">${bidsText(history.length)}</span></p>
            <div class="line"><a class="button" href="/bid/${item.id}">Bid</a>${frame.visit.user && watch}</div></div>
          ${frame.visit.user && buyForm(frame, item)}
        </div>
      </div>
      <h2>Bids</h2>${historyTable(history)}`,
  })
}

export function bidPage(frame: Frame, { item, history }: FullItem): Html {
  const least = leastBid(item)
  const fields = html`
    <label>Your bid, in euro <input name="amount" inputmode="decimal" value="${amount(least)}" autofocus></label>
    <p class="faint">At least ${money(least)}. You will be asked once more before it counts.</p>${button('Enter bid')}`
  return page(frame, {
    name: 'bid', title: `Bid on ${item.title}`,
    content: html`
      <p class="crumbs"><a href="/item/${item.id}">${item.title}</a></p>
      <h1 data-row="shown" data-id="${item.id}" data-least="${least}">Bid on “${item.title}”</h1>
      <div class="split">${form(frame, '/draft', { item: item.id }, fields, 'box')}<div>${historyTable(history)}</div></div>`,
  })
}

export const loginPage = (frame: Frame, next: string): Html =>
  page(frame, {
    name: 'login', title: 'Log in',
    content: html`<h1>Log in</h1>${form(frame, '/login', { next }, html`
      <label>Name <input name="name" autocomplete="username" required autofocus></label>
      <label>Password <input name="password" type="password" autocomplete="current-password" required></label>
      <p class="faint">Try <b>user-1</b> with the password <b>auction</b>.</p>${button('Log in')}`, 'box narrow')}`,
  })

export const sellPage = (frame: Frame, categories: readonly Category[]): Html =>
  page(frame, {
    name: 'sell', title: 'Sell an item',
    content: html`<h1>Sell an item</h1>${form(frame, '/sell', {}, html`
      <label>What is it? <input name="title" maxlength="80" required></label>
      <label>Description <textarea name="description" rows="4" maxlength="500" required></textarea></label>
      <label>Category <select name="category">${categories.map(({ id, name }) => html`<option value="${id}">${name}</option>`)}</select></label>
      <label>First bid, in euro <input name="start" inputmode="decimal" required></label>
      <label>Buy it now, in euro <span class="faint">(may stay empty)</span> <input name="buyNow" inputmode="decimal"></label>${button('Put it up for auction')}`, 'box narrow')}`,
  })

export const errorPage = (frame: Frame, message: string): Html =>
  page(frame, { name: 'error', title: 'That did not work', content: html`<h1>That did not work</h1><p>${message}</p><p><a href="/">Back to the auctions</a></p>` })
