"""How the page looks: one style sheet, light and dark, for screens, phones and paper."""

from __future__ import annotations

from vitlab.analysis.drawing import LOOKS

_LIGHT = {
    "page": "#fbfbfa",
    "card": "#ffffff",
    "ink": "#1c2128",
    "soft": "#59626e",
    "line": "#dfe3e8",
    "grid": "#e9ecef",
    "refuse": "#b3261e",
    "warn": "#8a5a00",
    "note": "#59626e",
}
_DARK = {
    "page": "#14171b",
    "card": "#1b1f25",
    "ink": "#e8eaed",
    "soft": "#a3acb8",
    "line": "#343b45",
    "grid": "#2a3038",
    "refuse": "#ff8f85",
    "warn": "#f0b94d",
    "note": "#a3acb8",
}

_RULES = """
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0;background:var(--page);color:var(--ink);
 overflow-wrap:break-word;font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:1180px;margin:0 auto;padding:0 24px}
header{padding-top:36px}
h1{font-size:1.05rem;font-weight:600;color:var(--soft);margin:0 0 20px;letter-spacing:.01em}
h2{font-size:1.3rem;line-height:1.3;margin:56px 0 4px;letter-spacing:-.01em}
h3{font-size:1.02rem;margin:32px 0 8px}
p{margin:6px 0 10px;max-width:72ch}
.soft,footer,caption{color:var(--soft)}
.task{font-size:.86rem;font-weight:650;color:var(--soft);margin:0 0 2px}
.claim{font-size:1.22rem;line-height:1.32;font-weight:650;letter-spacing:-.012em;margin:0 0 6px;text-wrap:balance}
.said .soft{font-size:.92rem;margin:0 0 8px}
.lead .claim{font-size:clamp(1.4rem,1.1rem + 1.3vw,2rem);line-height:1.25;max-width:34ch}
.lead .soft{font-size:1rem;max-width:80ch}
.each{margin:8px 0;padding-left:1.1em;font-size:.94rem}.each li{margin:3px 0;max-width:80ch}
td.value{overflow-wrap:anywhere;min-width:11em}td.value,th.setting{font-size:.86rem}
.foretold{border-left:4px dashed var(--line);padding:1px 12px;margin:8px 0;font-size:.92rem;color:var(--soft);
 max-width:80ch}
.unfinished{border-left:4px solid var(--warn);padding:1px 12px;margin:8px 0;font-size:.92rem}
.panels{display:grid;grid-template-columns:minmax(0,1fr);gap:30px 22px}
article{display:flex;flex-direction:column;justify-content:space-between;gap:10px;min-width:0}
.beside{display:grid;grid-template-columns:minmax(0,1fr);gap:8px 40px;align-items:start;margin-top:18px}
@media(min-width:760px){.panels{grid-template-columns:repeat(2,minmax(0,1fr))}}
@media(min-width:1000px){.panels.three{grid-template-columns:repeat(3,minmax(0,1fr))}
 .beside{grid-template-columns:minmax(0,1.4fr) minmax(0,1fr)}.beside .fairness h2{margin-top:4px}}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 8px 8px}
svg{display:block;width:100%;height:auto;font-family:inherit}
.key{font-size:.86rem;color:var(--soft);margin:8px 2px 0;max-width:none}
.tick,.axis,.note{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.note{fill:var(--ink)}
.name{font-size:13.5px;font-weight:700;fill:var(--model)}
.grid{stroke:var(--grid)}.base{stroke:var(--soft)}.cross{stroke:var(--soft)}.span{fill:var(--soft);opacity:.13}
.one-class{stroke:var(--soft);stroke-dasharray:5 4}
.band{fill:var(--model);opacity:.15}
.mean{fill:none;stroke:var(--model);stroke-width:2.2;stroke-linejoin:round}
.fit{fill:none;stroke:var(--model);stroke-width:1.5;stroke-dasharray:.1 4;stroke-linecap:round}
.beyond-band{fill:var(--model);opacity:.07}
.beyond{fill:none;stroke:var(--model);stroke-width:1.4;stroke-dasharray:4 3;opacity:.85}
.hollow{fill:var(--card);stroke:var(--model);stroke-width:1.3}.reference{max-width:620px}
.seed{fill:var(--model);opacity:.5}
.mark{fill:var(--model);stroke:var(--card);stroke-width:1.3}
.ring{fill:none;stroke:var(--model);stroke-width:1.4}
figure{position:relative}
.controls{display:flex;flex-wrap:wrap;gap:6px 16px;align-items:center;margin:14px 0 10px;font-size:.9rem;
 color:var(--soft)}
.controls[hidden]{display:none}
.models{display:flex;flex-wrap:wrap;gap:6px}
button,select{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:999px;
 padding:3px 12px;cursor:pointer}
.models button{max-width:100%;overflow-wrap:anywhere}
select{border-radius:8px;padding:3px 6px;min-width:0}
.models button{color:var(--model);font-weight:650;border-color:currentColor}
.models button[aria-pressed=false]{color:var(--soft);text-decoration:line-through;border-style:dashed}
.controls label{display:inline-flex;gap:5px;align-items:center;min-width:0;max-width:100%}
.sort{border:0;padding:0;background:none;border-radius:3px;text-align:inherit;font-weight:inherit}
th[aria-sort=ascending] .sort::after{content:" \\2191"}th[aria-sort=descending] .sort::after{content:" \\2193"}
.tip{position:absolute;z-index:2;pointer-events:none;background:var(--card);color:var(--ink);
 border:1px solid var(--soft);border-radius:8px;padding:6px 10px;font-size:.84rem;line-height:1.4;
 width:max-content;max-width:min(260px,70%);
 box-shadow:0 2px 10px rgb(0 0 0/.12);font-variant-numeric:tabular-nums}
.tip div:first-child{font-weight:650}
.pointer{stroke-width:2.2}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap;margin:0}
.courses{display:grid;gap:10px;grid-template-columns:repeat(auto-fill,minmax(min(220px,100%),1fr))}
.course{fill:none;stroke:var(--model);stroke-width:1.1;opacity:.75;stroke-linejoin:round}
.curves{max-width:660px;margin:18px 0}
.fairness h2{margin-top:36px}
.findings{list-style:none;margin:10px 0 0;padding:0}
.findings li{display:grid;grid-template-columns:4.6em minmax(0,1fr);gap:10px;padding:7px 0;
 border-top:1px solid var(--line);font-size:.94rem;line-height:1.45}
.level{overflow-wrap:normal;white-space:nowrap;font-weight:650;font-size:.88rem}
.refuse .level{color:var(--refuse)}.warn .level{color:var(--warn)}.note .level{color:var(--note)}
.wide{overflow-x:auto;margin:8px 0 18px;border:1px solid var(--line);border-radius:10px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:10px 14px 4px;font-size:.9rem}
th,td{padding:6px 14px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
thead th{border-top:0;white-space:normal;min-width:5.2em;color:var(--soft);font-weight:600;vertical-align:bottom}
thead th:first-child,tbody th,.text{text-align:left}
td.text{white-space:normal;min-width:16em}
tbody th{font-weight:650;vertical-align:top}
tbody+tbody>tr:first-child>*{border-top:2px solid var(--line)}
.model{color:var(--model)}
details{margin:8px 0}
summary{cursor:pointer;padding:6px 0;font-weight:600}
.pair{border-top:1px solid var(--line);margin:0}.pair summary{font-weight:400;max-width:46em}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;
 background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 14px;margin:4px 0 14px}
.commands{margin:0;padding:0;list-style:none}
:focus-visible{outline:3px solid var(--m0);outline-offset:2px}
footer{margin-top:56px;padding-bottom:40px;font-size:.9rem}
@media(max-width:520px){main,header,footer{padding-left:16px;padding-right:16px}header{padding-top:22px}
 figure{padding:10px 4px 6px;margin:0 -8px}th,td{padding:6px 10px}h2{margin-top:44px}
 .findings li{grid-template-columns:minmax(0,1fr);gap:0}}
@media print{.controls,.tip{display:none!important}
 body{background:#fff;font-size:10.5pt}.wide{overflow:visible;border:0}figure{break-inside:avoid}
 tr,li{break-inside:avoid}main,header,footer{max-width:none;padding:0}
 .beside,.panels,.panels.three{grid-template-columns:minmax(0,1fr)}details::details-content{content-visibility:visible}
 table{font-size:8pt}th,td{padding:2px 4px;white-space:normal}thead th,td.text{min-width:0}}
"""


def style_sheet() -> str:
    """Return the page's CSS; models' colors are the classes m0 to m5."""
    light = _variables(_LIGHT, [look.color for look in LOOKS])
    dark = _variables(_DARK, [look.dark_color for look in LOOKS])
    models = "".join(f".m{index}{{--model:var(--m{index})}}" for index in range(len(LOOKS)))
    # Paper is white also for those whose screen is dark.
    schemes = (
        f":root{{color-scheme:light dark;{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
    return schemes + models + _RULES


def _variables(named: dict[str, str], models: list[str]) -> str:
    pairs = [*named.items(), *((f"m{index}", color) for index, color in enumerate(models))]
    return "".join(f"--{name}:{color};" for name, color in pairs)
