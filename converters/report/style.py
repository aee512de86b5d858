"""The page's style: one column, light and dark, fit for paper."""

from __future__ import annotations

STYLE = """
:root{color-scheme:light dark;--fg:#1c2126;--dim:#5d6772;--bg:#fff;--card:#f5f7f9;--line:#d9dee3;
--bar:#3b7dd8;--bad:#c8372d;--ok:#1f7a3f;--okb:#dff3e5;--note:#8a5a00;--noteb:#fdf0d2;
--open:#4a5560;--openb:#e4e8ec}
@media (prefers-color-scheme:dark){:root{--fg:#e4e8ec;--dim:#9aa5b1;--bg:#14181c;--card:#1c2228;
--line:#333c45;--bar:#5c9bef;--bad:#ef6a60;--ok:#7ed69a;--okb:#173723;--note:#f0c36a;
--noteb:#3d2f10;--open:#b6c0ca;--openb:#2b333b}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}
main{max-width:860px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:0 0 10px}
h3{font-size:14px;margin:16px 0 6px;color:var(--dim);font-weight:600}
p{margin:6px 0}.lead{margin:0 0 14px}.dim{color:var(--dim)}
section{border-top:1px solid var(--line);margin-top:26px;padding-top:18px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:3px 16px;margin:0}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
code{font:12.5px/1.45 ui-monospace,monospace;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:13.5px;margin-top:8px}
th{text-align:left;color:var(--dim);font-weight:600;padding:4px 10px 4px 0;
border-bottom:1px solid var(--line);white-space:nowrap}
td{padding:5px 10px 5px 0;vertical-align:top;border-bottom:1px solid var(--line)}
.checks td:first-child,.checks td:last-child{white-space:nowrap}
.chip{display:inline-block;border-radius:9px;padding:0 9px;font-size:12.5px;font-weight:600;
white-space:nowrap}
.ok{color:var(--ok);background:var(--okb)}.note{color:var(--note);background:var(--noteb)}
.open{color:var(--open);background:var(--openb)}
svg{display:block;width:100%;height:auto;margin:10px 0;background:var(--card);border-radius:8px}
svg text{fill:var(--fg);font:11px system-ui,sans-serif}svg text.dim{fill:var(--dim)}
.bar{fill:var(--bar)}.bad{fill:var(--bad)}.axis{stroke:var(--line)}
.limit{stroke:var(--bad);stroke-dasharray:4 3}
ul{margin:4px 0;padding-left:20px}
@media print{main{max-width:none}section{break-inside:avoid}}
""".replace("\n", "")
"""Without line breaks: the page is a file for people, its style is not."""
