/** What all pages have: the head, the notice of the form before, and a foot that says who served it. */
import { html, type Html } from './html.js'
import type { Done, Visit } from './visit.js'

/** What each page is given. */
export interface Frame {
  readonly visit: Visit
  /** The application node that serves it. */
  readonly node: string
  /** A key for a form: each form that is shown has its own. */
  readonly newKey: () => string
  /** The form that led to this page, if one did. */
  readonly done: Done | undefined
}

export interface PageOptions {
  /** For programs: which page this is. */
  readonly name: string
  readonly title: string
  readonly content: Html
}

/** A form of one button, or of what is given. */
export function form(frame: Frame, action: string, fields: Readonly<Record<string, string | number>>, content: Html, className = ''): Html {
  const hidden = Object.entries({ key: frame.newKey(), ...fields }).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`)
  return html`<form method="post" action="${action}" class="${className}">${hidden}${content}</form>`
}

export const button = (text: string, className = ''): Html => html`<button class="${className}">${text}</button>`

const count = (number: number): Html | false => number > 0 && html`<b>${number}</b>`

function heading(frame: Frame): Html {
  const { user, drafts, cart, watched } = frame.visit
  const own = user && html`
    <a href="/watchlist">Watch list${count(watched.length)}</a>
    <a href="/bids">Bids in progress${count(drafts.length)}</a>
    <a href="/cart">Cart${count(cart.length)}</a>
    <a href="/me">${user.name}</a>
    ${form(frame, '/logout', {}, button('Log out', 'quiet'), 'inline')}`
  return html`
    <header><div class="wide">
      <a class="brand" href="/"><span aria-hidden="true"></span>The Long Room</a>
      <nav><a href="/categories">Categories</a><a href="/sell">Sell</a>${own ?? html`<a href="/login">Log in</a>`}</nav>
    </div></header>`
}

export function page(frame: Frame, { name, title, content }: PageOptions): Html {
  const { visit: { user, drafts, cart, watched }, node, done } = frame
  const notice = done && html`<p class="notice ${done.outcome}" role="status" data-row="notice" data-form="${done.key}" data-outcome="${done.outcome}">${done.notice}</p>`
  return html`<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${title} · The Long Room</title>
  <link rel="stylesheet" href="/style.css">
</head>
<body data-row="page" data-page="${name}" data-node="${node}" data-user="${user?.name}" data-drafts="${drafts.length}" data-cart="${cart.length}" data-watched="${watched.length}">
  ${heading(frame)}
  <main class="wide">
    ${notice}
    ${content}
  </main>
  <footer><div class="wide">An example of Backdoors: your visit is kept in the memory of node <b>${node}</b>.</div></footer>
</body>
</html>`
}
