/** What an emulated user sees of a page: the rows that it is made of, and its forms. */

export interface Row {
  readonly [field: string]: string
}

export interface FormSeen {
  readonly action: string
  /** Its hidden fields, the key among them. */
  readonly fields: Row
}

const letters: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" }
const unescaped = (text: string): string => text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => letters[name] as string)

const rowTag = /<[a-z0-9]+ [^>]*?data-row="[^>]*>/g
const dataAttribute = /data-([a-z-]+)="([^"]*)"/g
const formTag = /<form method="post" action="([^"]*)"[^>]*>(.*?)<\/form>/gs
const hiddenField = /<input type="hidden" name="([^"]*)" value="([^"]*)">/g

export class PageSeen {
  readonly name: string
  /** The account that it says is logged in; empty where none is. */
  readonly user: string
  readonly drafts: number
  readonly cart: number
  readonly watched: number
  readonly node: string
  readonly forms: readonly FormSeen[]
  readonly #rows: readonly Row[]

  constructor(html: string) {
    this.#rows = [...html.matchAll(rowTag)].map(([tag]) => Object.fromEntries([...tag.matchAll(dataAttribute)].map(([, name, value]) => [name as string, unescaped(value as string)])))
    this.forms = [...html.matchAll(formTag)].map(([, action, content]) => ({
      action: action as string,
      fields: Object.fromEntries([...(content as string).matchAll(hiddenField)].map(([, name, value]) => [name as string, unescaped(value as string)])),
    }))
    const about = this.row('page') ?? {}
    this.name = about['page'] ?? ''
    this.user = about['user'] ?? ''
    this.node = about['node'] ?? ''
    this.drafts = Number(about['drafts'])
    this.cart = Number(about['cart'])
    this.watched = Number(about['watched'])
  }

  rows(kind: string): readonly Row[] {
    return this.#rows.filter((row) => row['row'] === kind)
  }

  row(kind: string): Row | undefined {
    return this.#rows.find((row) => row['row'] === kind)
  }

  /** @param item the form of this item, where the page has one for each */
  form(action: string, item?: number): FormSeen | undefined {
    return this.forms.find((form) => form.action === action && (item === undefined || Number(form.fields['item']) === item))
  }
}
