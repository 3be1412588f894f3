"""The pages' one style sheet."""

CSS = """
:root {
  --ink: #17212b; --soft: #566472; --faint: #5f6d7a; --line: #dfe5ea; --paper: #ffffff; --ground: #f4f6f8;
  --accent: #1554c0; --accent-ink: #ffffff; --accent-soft: #e8effb;
  --good: #176639; --good-soft: #e3f3e9; --wait: #7a4d00; --wait-soft: #fdf1d8;
  --bad: #a11b1b; --bad-soft: #fbe6e5; --idle: #4d5964; --idle-soft: #e9edf0;
  --radius: 10px;
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 5rem; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
a { color: var(--accent); }
h1, h2, h3, p, dl, dd, ul { margin: 0; padding: 0; }
ul { list-style: none; }
.wrap { max-width: 1120px; margin: 0 auto; padding: 0 24px; }

.bar { background: var(--paper); border-bottom: 1px solid var(--line); position: sticky; top: 0; z-index: 2; }
.bar .wrap {
  display: flex; align-items: center; gap: 12px 24px; flex-wrap: wrap; padding-top: 12px;
  padding-bottom: 12px;
}
.brand {
  font-weight: 650; text-decoration: none; color: var(--ink); margin-right: auto; white-space: nowrap;
}
.brand span { color: var(--soft); font-weight: 400; }
.clock { display: flex; align-items: center; gap: 8px 16px; flex-wrap: wrap; }
.clock time { font-variant-numeric: tabular-nums; font-weight: 600; white-space: nowrap; }
.clock small { color: var(--soft); font-size: 13px; font-weight: 400; margin-left: 6px; }
.clock form { display: flex; gap: 6px; }

main { padding: 32px 0 64px; }
section { margin-bottom: 48px; }
.head { display: flex; align-items: baseline; gap: 4px 16px; flex-wrap: wrap; margin-bottom: 16px; }
h2 { font-size: 20px; line-height: 1.3; font-weight: 650; letter-spacing: -0.01em; }
h3 { font-size: 16px; line-height: 1.35; font-weight: 650; }
.lead { color: var(--soft); }
.notice {
  padding: 12px 16px; border-radius: var(--radius); margin-bottom: 24px; background: var(--good-soft);
  color: var(--good);
}
.notice.problem { background: var(--bad-soft); color: var(--bad); }

.card {
  background: var(--paper); border: 1px solid var(--line); border-radius: var(--radius); padding: 20px;
}
.grid { display: grid; gap: 20px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); }
.product { display: flex; flex-direction: column; gap: 16px; }
.product form { margin-top: auto; }
.kind { color: var(--soft); font-size: 13px; margin-top: 2px; }
.prices { border-top: 1px solid var(--line); }
.prices li {
  display: flex; justify-content: space-between; gap: 12px; padding: 7px 0;
  border-bottom: 1px solid var(--line); font-size: 14px;
}
.prices span:last-child { color: var(--soft); white-space: nowrap; }
code {
  display: inline-block; max-width: 100%;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px;
  overflow-wrap: anywhere;
}

form.fields { display: grid; gap: 12px; }
.pair { display: grid; gap: 12px; grid-template-columns: 1fr 1fr; }
label { display: block; font-size: 13px; color: var(--soft); }
label.check { display: flex; gap: 8px; align-items: center; color: var(--ink); font-size: 14px; }
input[type=text], input[type=number], input[type=url], select {
  width: 100%; margin-top: 4px; padding: 8px 10px; font: inherit; font-size: 15px; color: var(--ink);
  border: 1px solid #b9c3cc; border-radius: 7px; background: var(--paper);
}
input:focus-visible, select:focus-visible, button:focus-visible, summary:focus-visible, a:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px;
}
button {
  font: inherit; font-size: 14px; font-weight: 550; line-height: 1.3; padding: 8px 14px; border-radius: 7px;
  border: 1px solid #b9c3cc; background: var(--paper); color: var(--ink); cursor: pointer; white-space: nowrap;
}
button:hover { background: var(--ground); }
button.primary { background: var(--accent); border-color: var(--accent); color: var(--accent-ink); }
button.primary:hover { background: #10449c; }
button.danger { color: var(--bad); border-color: #e0b4b2; }
button.danger:hover { background: var(--bad-soft); }
button.small { padding: 5px 10px; font-size: 13px; }

.stack { display: grid; gap: 16px; }
.purchase .top { display: flex; align-items: flex-start; gap: 8px 16px; flex-wrap: wrap; }
.purchase .top > div:first-child { margin-right: auto; }
.pill {
  display: inline-block; padding: 2px 10px; border-radius: 99px; font-size: 13px; font-weight: 600;
  white-space: nowrap; background: var(--idle-soft); color: var(--idle);
}
.pill.good { background: var(--good-soft); color: var(--good); }
.pill.wait { background: var(--wait-soft); color: var(--wait); }
.pill.bad { background: var(--bad-soft); color: var(--bad); }
.facts { display: flex; flex-wrap: wrap; gap: 12px 40px; margin: 16px 0 0; }
.facts dt { font-size: 13px; color: var(--soft); }
.facts dd { font-variant-numeric: tabular-nums; }
.ids { color: var(--soft); font-size: 13px; margin: 12px 0 16px; display: flex; flex-wrap: wrap; gap: 2px 24px; }
.actions { display: flex; flex-wrap: wrap; gap: 8px; align-items: flex-start; }
details { border-top: 1px solid var(--line); margin-top: 16px; padding-top: 12px; }
summary { cursor: pointer; font-size: 14px; color: var(--accent); font-weight: 550; width: fit-content; }
details .inner { display: flex; flex-wrap: wrap; gap: 20px 32px; padding-top: 12px; align-items: flex-end; }
details .change { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-end; }
details .change label { width: 130px; }

table { border-collapse: collapse; width: 100%; background: var(--paper); font-size: 14px; }
.table {
  border: 1px solid var(--line); border-radius: var(--radius); overflow: hidden;
  background: var(--paper);
}
th {
  text-align: left; font-weight: 550; font-size: 13px; color: var(--soft); background: #fafbfc;
  white-space: nowrap;
}
th, td { padding: 9px 16px; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
td.num, th.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.when { font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.twice td { background: var(--bad-soft); }
tfoot td { border-top: 1px solid var(--line); border-bottom: 0; font-weight: 650; background: #fafbfc; }
.bill + .bill { margin-top: 24px; }
.bill .head { margin-bottom: 10px; }
.bill .head span { color: var(--soft); font-size: 14px; }
.tags { display: grid; gap: 4px; font-size: 13px; }
.tags > div { display: flex; flex-wrap: wrap; gap: 4px; align-items: baseline; }
.tag {
  background: var(--idle-soft); color: var(--idle); border-radius: 5px; padding: 0 6px; overflow-wrap: anywhere;
}
.tags b { font-weight: 400; margin-left: 4px; font-variant-numeric: tabular-nums; }
.outcome { font-weight: 600; color: var(--good); overflow-wrap: anywhere; }
.outcome.bad { color: var(--bad); }
td.what { overflow-wrap: anywhere; }
.empty {
  border: 1px dashed #c3ccd4; border-radius: var(--radius); padding: 28px 24px; color: var(--soft);
  text-align: center; background: #fafbfc;
}
.two {
  display: grid; gap: 48px 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  align-items: start;
}
.two > section { min-width: 0; }
.more { color: var(--soft); font-size: 13px; margin-top: 10px; }
.setup { max-width: 560px; margin: 8vh auto 0; padding: 0 24px; }
.setup .card { padding: 32px; display: grid; gap: 16px; }

@media (max-width: 640px) {
  .wrap { padding: 0 16px; }
  .bar { position: static; }
  .brand, .clock, .clock form { width: 100%; }
  .clock form button { flex: 1; }
  main { padding-top: 24px; }
  .card { padding: 16px; }
  .facts { gap: 12px 24px; }
  .actions form, .actions button { flex: 1 1 auto; width: auto; }
  .actions form button { width: 100%; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table, tbody, tfoot { display: block; }
  tr { display: grid; grid-template-columns: 1fr auto; gap: 2px 16px; padding: 12px 16px; }
  tbody tr { border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; }
  td, td.num { padding: 0; border: 0; background: none; }
  tr.twice td { background: none; }
  td.when, td.quantity { color: var(--soft); order: 3; font-size: 13px; }
  td.when { grid-column: 1; }
  td.quantity { text-align: right; }
  td.wide { order: 4; grid-column: 1 / -1; padding-top: 4px; }
  td.none { display: none; }
  td.what { font-weight: 550; }
  tr.twice { background: var(--bad-soft); }
  tfoot tr { background: #fafbfc; border-top: 1px solid var(--line); }
  tfoot td { border: 0; }
}
"""
