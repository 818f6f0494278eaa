/** One emulated user: walks through the site by the transition table, and checks every page against its ledger. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Random } from '../../../src/fabric/mock/random.js'
import { HttpClient, type HttpAnswer, type HttpClientOptions } from './http-client.js'
import { UserLedger, type Bought, type LedgerStep } from './ledger.js'
import { PageSeen, type FormSeen } from './page-reader.js'
import { nextAction, type Action, type Situation } from './transitions.js'

export interface EmulatedUserOptions {
  readonly name: string
  readonly password: string
  readonly client: HttpClientOptions
  readonly random: Random
  /** Mean time between a page and the next click, in milliseconds. */
  readonly thinkMs: number
  /** An answer came. */
  readonly onAnswer: (answer: HttpAnswer, node: string) => void
}

/** A user whose story has come apart in so many ways stops. */
const mostFindings = 20

type Fields = Readonly<Record<string, string | number>>

export class EmulatedUser {
  readonly ledger: UserLedger
  readonly #options: EmulatedUserOptions
  readonly #client: HttpClient
  readonly #stop = new AbortController()
  #page = new PageSeen('')
  #items: readonly number[] = []
  #categories: readonly number[] = []
  #running: Promise<void> | undefined
  #sold = 0

  constructor(options: EmulatedUserOptions) {
    this.#options = options
    this.ledger = new UserLedger(options.name)
    this.#client = new HttpClient(options.client)
  }

  get connections(): number {
    return this.#client.connections
  }

  /** @param afterMs the first request is sent so late */
  start(afterMs: number): void {
    this.#running ??= this.#run(afterMs)
  }

  /** Ends after what is under way. */
  async stop(): Promise<void> {
    this.#stop.abort()
    await this.#running
    this.#client.close()
  }

  async #run(afterMs: number): Promise<void> {
    const { thinkMs, random } = this.#options
    let action: Action = 'login'
    let pauseMs = afterMs
    try {
      while (this.ledger.findings.length < mostFindings && (await this.#pause(pauseMs))) {
        await this.#act(action)
        action = nextAction(action, this.#situation(), random)
        // Exponential, as RUBiS has it, and never longer than five times the mean.
        pauseMs = Math.min(5, -Math.log(1 - random.float())) * thinkMs
      }
      // A last look at everything, now that nothing is under way.
      if (this.ledger.isLoggedIn) for (const last of ['me', 'cart', 'bids', 'watchlist'] as const) await this.#act(last)
    } catch (error) {
      this.ledger.find('broken', error instanceof Error ? error.message : String(error))
    }
  }

  async #pause(ms: number): Promise<boolean> {
    const { signal } = this.#stop
    await sleep(ms, undefined, { signal }).catch(() => undefined)
    return !signal.aborted
  }

  #situation(): Situation {
    const { ledger } = this
    const shown = this.#shown
    return {
      isLoggedIn: ledger.isLoggedIn, drafts: ledger.drafts.size, cart: ledger.cart.size, watched: ledger.watched.size, seesItems: this.#items.length > 0, seesCategories: this.#categories.length > 0,
      looksAtItem: shown !== undefined, canBuy: this.#page.form('/add') !== undefined,
    }
  }

  /** The item that it looks at. */
  get #shown(): number | undefined {
    const shown = this.#page.name === 'item' ? this.#page.row('shown') : undefined
    return shown && Number(shown['id'])
  }

  async #act(action: Action): Promise<void> {
    const { random } = this.#options
    switch (action) {
      case 'home':
        return void (await this.#open('/', 'home'))
      case 'categories':
      case 'bids':
      case 'cart':
      case 'me':
      case 'watchlist':
        return void (await this.#open(`/${action}`, action))
      case 'category':
        return void (await this.#open(`/category/${random.pick(this.#categories)}`, 'category'))
      case 'item':
        return void (await this.#open(`/item/${random.pick(this.#items)}`, 'item'))
      case 'login':
        return this.#login()
      case 'logout':
        await this.#send(this.#form('/logout'), {}, 'home', () => this.ledger.logOut())
        return
      case 'sell':
        return this.#sell()
      case 'enter-bid':
        return this.#enterBid()
      case 'place-bid':
        return this.#placeBid()
      case 'checkout':
        return this.#checkOut()
      default:
        return this.#keep(action)
    }
  }

  async #login(): Promise<void> {
    const { name, password } = this.#options
    await this.#open('/login', 'login')
    await this.#send(this.#form('/login'), { name, password }, 'home', () => (this.ledger.isLoggedIn = true))
  }

  /** What is kept in the visit alone. */
  async #keep(action: 'watch' | 'unwatch' | 'discard-bid' | 'add-to-cart' | 'remove-from-cart'): Promise<void> {
    const { random } = this.#options
    const { ledger } = this
    const item = this.#shown ?? 0
    switch (action) {
      case 'watch': {
        // It may be watched already; then its page has no such form.
        const form = this.#page.form('/watch')
        if (form) await this.#send(form, {}, 'item', () => ledger.watched.add(item))
        return
      }
      case 'unwatch': {
        const page = await this.#open('/watchlist', 'watchlist')
        const chosen = random.pick([...ledger.watched])
        await this.#send(page.form('/unwatch', chosen), {}, 'watchlist', () => ledger.watched.delete(chosen))
        return
      }
      case 'discard-bid': {
        const page = await this.#open('/bids', 'bids')
        const chosen = random.pick([...ledger.drafts.keys()])
        await this.#send(page.form('/discard', chosen), {}, 'bids', () => ledger.drafts.delete(chosen))
        return
      }
      case 'add-to-cart': {
        const quantity = random.integer(1, 2)
        await this.#send(this.#form('/add'), { quantity }, 'cart', () => ledger.cart.set(item, quantity))
        return
      }
      case 'remove-from-cart': {
        const page = await this.#open('/cart', 'cart')
        const chosen = random.pick([...ledger.cart.keys()])
        await this.#send(page.form('/remove', chosen), {}, 'cart', () => ledger.cart.delete(chosen))
      }
    }
  }

  async #enterBid(): Promise<void> {
    const { random } = this.#options
    const item = this.#shown as number
    const page = await this.#open(`/bid/${item}`, 'bid')
    // Others bid as well: a bid with something to spare is less often too low in the end.
    const cents = Number(page.row('shown')?.['least']) + random.integer(0, 8) * 50
    await this.#send(this.#form('/draft'), { amount: (cents / 100).toFixed(2) }, 'bids', () => this.ledger.drafts.set(item, cents))
  }

  async #placeBid(): Promise<void> {
    const page = await this.#open('/bids', 'bids')
    const [item, cents] = this.#options.random.pick([...this.ledger.drafts])
    const step: LedgerStep = { kind: 'bid', item, cents, state: 'sent' }
    await this.#send(page.form('/place', item), {}, 'item', () => this.ledger.drafts.delete(item), step)
  }

  async #checkOut(): Promise<void> {
    const page = await this.#open('/cart', 'cart')
    const step: LedgerStep = { kind: 'checkout', bought: [], state: 'sent' }
    const asked = new Map(this.ledger.cart)
    const receipt = await this.#send(page.form('/checkout'), {}, 'receipt', () => this.ledger.cart.clear(), step)
    const bought = (receipt?.rows('purchase') ?? []).map((row): Bought => ({ item: Number(row['item']), quantity: Number(row['quantity']), cents: Number(row['cents']) }))
    for (const { item, quantity } of bought) if (asked.get(item) !== quantity) this.ledger.find('invented', `the receipt has ${quantity} of item ${item}, and ${asked.get(item) ?? 0} were in the cart`)
    if (new Set(bought.map(({ item }) => item)).size < bought.length) this.ledger.find('twice', 'the receipt has an item twice')
    step.bought = bought
  }

  async #sell(): Promise<void> {
    const { random, name } = this.#options
    const page = await this.#open('/sell', 'sell')
    const title = `Box ${++this.#sold} of ${name}`
    const step: LedgerStep = { kind: 'sell', title, item: 0, state: 'sent' }
    const fields = { title, description: 'Nobody knows what is in it. "It rattles," they say & smile.', category: random.integer(1, 10), start: `${random.integer(1, 20)}.50`, buyNow: '' }
    const after = await this.#send(page.form('/sell'), fields, 'item', () => undefined, step)
    if (after) step.item = Number(after.row('shown')?.['id'])
  }

  /** Opens a page, and checks it. */
  async #open(path: string, name: string): Promise<PageSeen> {
    const answer = await this.#client.get(path)
    if (answer.status !== 200) throw new Error(`${path} was answered by status ${answer.status}`)
    const page = new PageSeen(answer.body)
    this.#options.onAnswer(answer, page.node)
    this.ledger.verify(page, name)
    this.#page = page
    const items = page.rows('item').map((row) => Number(row['id']))
    if (items.length > 0) this.#items = items
    const categories = page.rows('category').map((row) => Number(row['id']))
    if (categories.length > 0) this.#categories = categories
    return page
  }

  #form(action: string): FormSeen | undefined {
    return this.#page.form(action)
  }

  /**
   * Sends a form, and follows to the page that tells what came of it.
   * @param then what the ledger has to hold once it is accepted; a bid that was too low is no more in progress either
   * @param step what the form does in the database, if it does
   * @returns the page; undefined where there was no such form
   */
  async #send(form: FormSeen | undefined, fields: Fields, pageAfter: string, then: () => void, step?: LedgerStep): Promise<PageSeen | undefined> {
    if (form === undefined) {
      this.ledger.find('lost', `a form for ${pageAfter} is not on the page "${this.#page.name}"`)
      return undefined
    }
    const key = form.fields['key'] ?? ''
    if (step) this.ledger.steps.set(key, step)
    const answer = await this.#client.post(form.action, { ...form.fields, ...fields })
    if (answer.status !== 303 || answer.location === undefined) throw new Error(`${form.action} was answered by status ${answer.status}`)
    this.#options.onAnswer(answer, '')
    then()
    const page = await this.#openAfter(answer.location, pageAfter, key, step)
    return page
  }

  async #openAfter(location: string, pageAfter: string, key: string, step: LedgerStep | undefined): Promise<PageSeen> {
    const answer = await this.#client.get(location)
    if (answer.status !== 200) throw new Error(`${location} was answered by status ${answer.status}`)
    const page = new PageSeen(answer.body)
    this.#options.onAnswer(answer, page.node)
    const notice = page.row('notice')
    if (notice?.['form'] !== key) this.ledger.find('lost', `page "${page.name}" does not say what came of the form`)
    else if (step) step.state = notice['outcome'] === 'accepted' ? 'accepted' : 'refused'
    else if (notice['outcome'] !== 'accepted') this.ledger.find('broken', `the form for "${pageAfter}" was refused`)
    this.ledger.verify(page, pageAfter)
    this.#page = page
    return page
  }
}
