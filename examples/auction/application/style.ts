/** The site's one style sheet. */
export const style = `
:root { --ink: #23282f; --faint: #66707c; --paper: #faf8f4; --card: #fff; --line: #e6e0d6; --accent: #a2401f; --second: #2f5d62; --good: #e6f1e4; --bad: #fbe7e0;
  font: 16px/1.5 system-ui, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif; color: var(--ink); background: var(--paper) }
* { box-sizing: border-box }
body { margin: 0; min-height: 100vh; display: flex; flex-direction: column }
main { flex: 1; padding-block: 1.5rem 3rem }
.wide { width: min(68rem, 100% - 2.5rem); margin-inline: auto }
a { color: inherit; text-underline-offset: .2em; text-decoration-color: #bbb2a3 }
h1, h2, .brand { font-family: Georgia, 'Liberation Serif', 'DejaVu Serif', serif; font-weight: 600; line-height: 1.2 }
h1 { font-size: 2rem; margin: 0 0 1rem }
h2 { font-size: 1.3rem; margin: 2.25rem 0 .9rem }
p { margin: .5rem 0 }
header { background: var(--card); border-bottom: 1px solid var(--line) }
header .wide { display: flex; flex-wrap: wrap; align-items: center; gap: .4rem 2rem; padding-block: .8rem }
.brand { font-size: 1.25rem; text-decoration: none; display: flex; align-items: center; gap: .6rem }
.brand span { width: 1.1rem; height: 1.1rem; border-radius: 50% 50% 50% 0; background: var(--accent) }
nav { display: flex; flex-wrap: wrap; align-items: center; gap: .3rem 1.3rem; margin-left: auto; font-size: .94rem }
nav a { text-decoration: none } nav a:hover, .title:hover { text-decoration: underline }
nav b { margin-left: .35rem; padding: .05rem .45rem; border-radius: 1rem; background: var(--accent); color: #fff; font-size: .75rem }
footer { border-top: 1px solid var(--line); color: var(--faint); font-size: .85rem; padding-block: 1rem }
.notice { margin: 0 0 1.5rem; padding: .7rem 1rem; border-radius: .5rem; background: var(--good) } .notice.refused { background: var(--bad) }
.hero { padding: 1.5rem 0 .5rem } .hero h1 { font-size: clamp(2rem, 5vw, 3rem); margin-bottom: .5rem } .hero p { color: var(--faint); font-size: 1.1rem }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: 1.1rem }
.card { display: grid; grid-template-columns: 1fr auto; gap: .1rem .5rem; padding-bottom: .8rem; background: var(--card); border: 1px solid var(--line); border-radius: .7rem; overflow: hidden; text-decoration: none; transition: box-shadow .15s }
.card:hover { box-shadow: 0 .4rem 1.2rem #0001 } .card .picture, .card .title { grid-column: 1 / -1 } .card > :not(.picture) { margin-inline: .9rem } .card .title { margin-top: .6rem }
.picture { display: grid; place-items: center; height: 7.5rem; font: 600 3rem Georgia, 'Liberation Serif', serif; color: hsl(var(--hue) 35% 38%); background: linear-gradient(135deg, hsl(var(--hue) 45% 90%), hsl(calc(var(--hue) + 40) 40% 82%)) }
.picture.large { height: 20rem; font-size: 8rem; border-radius: .7rem } .picture.small { flex: none; width: 3.5rem; height: 3.5rem; font-size: 1.5rem; border-radius: .5rem }
.title { font-weight: 600 } .price { font-weight: 700; font-variant-numeric: tabular-nums } .now .price { font-size: 1.6rem; margin-inline: .3rem }
.faint { color: var(--faint); font-size: .92rem; font-weight: 400 } .warning { color: var(--accent) }
.chips { display: flex; flex-wrap: wrap; gap: .6rem; list-style: none; padding: 0; margin: 0 }
.chips a { display: block; padding: .4rem .9rem; background: var(--card); border: 1px solid var(--line); border-radius: 2rem; text-decoration: none } .chips a:hover { border-color: var(--accent) } .chips b { color: var(--faint); font-weight: 400; margin-left: .2rem }
.crumbs { color: var(--faint); font-size: .9rem; margin-bottom: .8rem } .crumbs a + a::before { content: '/'; margin: 0 .5rem 0 .2rem; display: inline-block; color: var(--faint) }
.pager { display: flex; gap: 1.5rem; margin-top: 1.5rem }
.split { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1.1fr); gap: 2rem; align-items: start } @media (max-width: 45rem) { .split { grid-template-columns: 1fr } }
.box { padding: 1.1rem 1.2rem; margin-top: 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .7rem } .split > .box { margin-top: 0 }
.box > :first-child { margin-top: 0 } .box > :last-child { margin-bottom: 0 } .narrow { max-width: 30rem } .empty { text-align: center; padding: 2.5rem }
.line { display: flex; align-items: center; gap: .8rem; margin-top: .7rem }
form { margin: 0 } label { display: block; margin-bottom: .9rem; font-weight: 600; font-size: .94rem }
[type=hidden] + p { margin-top: 0 }
input, select, textarea { display: block; width: 100%; margin-top: .3rem; padding: .55rem .7rem; font: inherit; font-weight: 400; color: inherit; background: #fff; border: 1px solid #cfc7ba; border-radius: .45rem } .line select { width: auto; margin: 0 }
button, .button { display: inline-block; padding: .5rem 1.15rem; border: 1px solid transparent; border-radius: .45rem; background: var(--accent); color: #fff; font: inherit; font-weight: 600; text-decoration: none; cursor: pointer; white-space: nowrap } button:hover, .button:hover { filter: brightness(1.1) }
.second { background: var(--second) } .quiet { background: none; border-color: #cfc7ba; color: var(--ink); font-weight: 400 } .inline .quiet { border: 0; padding: 0; color: var(--faint) }
:focus-visible { outline: 3px solid #e0a58f; outline-offset: 2px }
.rows { list-style: none; margin: 0; padding: 0; display: grid; gap: .7rem } .rows li { display: flex; flex-wrap: wrap; align-items: center; gap: .8rem 1rem; padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line); border-radius: .7rem } .grow { flex: 1 1 14rem } .grow > * { display: block }
.total { display: flex; justify-content: flex-end; align-items: center; gap: 1.5rem; margin-top: 1.2rem } .total .price { font-size: 1.4rem; margin-left: .4rem }
table { width: 100%; border-spacing: 0; background: var(--card); border: 1px solid var(--line); border-radius: .7rem } th, td { padding: .55rem 1rem; text-align: left; border-bottom: 1px solid var(--line) } tbody tr:last-child td, tfoot td { border-bottom: 0 } th { font-size: .85rem; color: var(--faint); font-weight: 600 } tfoot td { border-top: 2px solid var(--line) } .number { text-align: right; font-variant-numeric: tabular-nums }
`
