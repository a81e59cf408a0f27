//! The colors and the layout of a page, light and dark, for narrow and wide windows.
//!
//! This module must not load anything, nor contain `<`. A page names its hash in [`super::POLICY`]: without that, a
//! browser does not apply it.

/// The style sheet.
pub(super) const STYLE: &str = r":root{color-scheme:light dark;--bg:#fff;--fg:#1a1d21;--dim:#5c6670;--line:#d9dee3;--card:#f6f8fa;--kept:#8fa3b5;--expired:#d9822b;--bad:#b3261e;
--s0:#3b76c4;--s1:#1f9fae;--s2:#3f9b5f;--s3:#c2504a;--s4:#8566b8;--s5:#8a6a56;--s6:#cf6fa8;--s7:#5f7f95;--s8:#a39a1f;--s9:#2f5d50;--s10:#6a8f2f;--s11:#a3567b;--rest:#98a1aa}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--fg:#e4e8ec;--dim:#9aa5b0;--line:#32393f;--card:#1c2125;--kept:#70879b;--expired:#e39a4d;--bad:#f2786f;
--s0:#5b93dd;--s1:#46bfcd;--s2:#5cb87d;--s3:#de716b;--s4:#a58ad6;--s5:#b08e78;--s6:#e08dc0;--s7:#86a6bc;--s8:#c4bb45;--s9:#6fb3a0;--s10:#93b957;--s11:#c67b9f;--rest:#6b747c}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 3rem;max-width:72rem;background:var(--bg);color:var(--fg);font:16px/1.45 system-ui,sans-serif}
h1{font-size:1.5rem;margin:0 0 .25rem}
h2{font-size:1.1rem;margin:2.2rem 0 .6rem}
p{margin:.3rem 0}
code{font-family:ui-monospace,monospace;font-size:.92em;overflow-wrap:anywhere}
.dim{color:var(--dim)}
.bad{color:var(--bad)}
.total{font-size:1.25rem}
svg{display:block;width:100%}
.whole{height:2.6rem;border-radius:.3rem;background:var(--card)}
.bar{height:.85rem;min-width:5rem;background:var(--card)}
.columns{height:11rem;border-bottom:1px solid var(--line);background:var(--card)}
.scale{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;font-size:.78rem;text-align:center;line-height:1.25;margin-top:.3rem}
.scale span{overflow-wrap:anywhere;padding:0 .1rem}
.scale data{display:block;color:var(--dim)}
table{width:100%;border-collapse:collapse;font-size:.92rem}
th{font-weight:600;text-align:left;color:var(--dim);border-bottom:1px solid var(--line)}
th,td{padding:.28rem .6rem .28rem 0;vertical-align:top}
td{border-bottom:1px solid var(--line)}
.c code,.one{white-space:nowrap}
.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.b{width:20%;padding-top:.55rem}
.swatch{display:inline-block;width:.75em;height:.75em;border-radius:.15em;margin-right:.45em;vertical-align:-.02em}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;margin:.5rem 0;padding:0;font-size:.88rem}
ul{margin:.3rem 0;padding-left:1.2rem}
li{overflow-wrap:anywhere}
.kept{fill:var(--kept);background:var(--kept)}.expired{fill:var(--expired);background:var(--expired)}
.area{fill:var(--expired);opacity:.25}.curve{fill:none;stroke:var(--expired);stroke-width:2.5;vector-effect:non-scaling-stroke}
.s0{fill:var(--s0);background:var(--s0)}.s1{fill:var(--s1);background:var(--s1)}.s2{fill:var(--s2);background:var(--s2)}.s3{fill:var(--s3);background:var(--s3)}
.s4{fill:var(--s4);background:var(--s4)}.s5{fill:var(--s5);background:var(--s5)}.s6{fill:var(--s6);background:var(--s6)}.s7{fill:var(--s7);background:var(--s7)}
.s8{fill:var(--s8);background:var(--s8)}.s9{fill:var(--s9);background:var(--s9)}.s10{fill:var(--s10);background:var(--s10)}.s11{fill:var(--s11);background:var(--s11)}
.rest{fill:var(--rest);background:var(--rest)}
@media(min-width:44rem){td:first-child{min-width:11rem}}
@media(max-width:64rem){td.b{width:12%}.bar{min-width:3.5rem}}
@media(max-width:54rem){.c code{white-space:normal}}
@media(max-width:44rem){.wide{display:none}td.b{width:15%}.bar{min-width:2.2rem}table{font-size:.82rem}.scale{font-size:.66rem}.c code{white-space:normal}th,td{padding-right:.4rem}}
@media print{body{max-width:none}.swatch,svg{print-color-adjust:exact}}
";
