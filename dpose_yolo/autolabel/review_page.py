"""Style and script of `review.html`. The script builds everything by `textContent`: file names are never markup."""

STYLE = """
:root{--ink:#222;--soft:#666;--line:#ddd;--pick:#0072B2;--bad:#a63a00}
*{box-sizing:border-box} body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1240px;padding:12px 16px;
color:var(--ink);background:#fff} h1{font-size:20px;margin:4px 0} p{margin:4px 0;color:var(--soft)}
.bar{display:flex;flex-wrap:wrap;gap:8px;align-items:center;margin:8px 0} button,select{font:inherit;padding:6px 10px;
min-height:36px;border:1px solid #999;border-radius:4px;background:#fff;color:var(--ink);max-width:100%}
button:focus-visible,select:focus-visible,.thumb:focus-visible{outline:3px solid var(--pick);outline-offset:1px}
#mark[aria-pressed=true]{background:var(--bad);border-color:var(--bad);color:#fff}
.main{display:grid;grid-template-columns:minmax(0,1fr) 250px;gap:16px;align-items:start}
.stage{position:relative;background:#eee;line-height:0} .stage img{width:100%;max-height:66vh;object-fit:contain}
.stage svg{position:absolute;inset:0;width:100%;height:100%}
#file{overflow-wrap:anywhere;font-family:ui-monospace,monospace;font-size:13px;color:var(--ink)}
table{border-collapse:collapse;width:100%;font-size:13px} td,th{text-align:left;padding:2px 6px 2px 0;
border-bottom:1px solid var(--line)} td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
tr.picked{background:#e5f1f8} tr.none td{color:#767676}
.thumbs{display:grid;grid-template-columns:repeat(auto-fill,minmax(96px,1fr));gap:6px;margin:14px 0}
.thumb{position:relative;padding:0;border:3px solid transparent;background:#eee;height:80px;min-height:0;
overflow:hidden;border-radius:3px;cursor:pointer} .thumb img{width:100%;height:100%;object-fit:cover;display:block}
.thumb.now{border-color:var(--pick)} .thumb.bad{border-color:var(--bad)}
.thumb.bad.now{box-shadow:0 0 0 2px var(--pick)}
.thumb span{position:absolute;left:0;bottom:0;background:#000b;color:#fff;font-size:11px;line-height:1.3;
padding:1px 4px}
@media(max-width:760px){.main{grid-template-columns:minmax(0,1fr)} .stage img{max-height:52vh}
.keys{display:none} .thumbs{grid-template-columns:repeat(auto-fill,minmax(76px,1fr))}}
"""

SCRIPT = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const $ = id => document.getElementById(id);
const store = 'dpose-autolabel-bad:' + data.id;
let bad = new Set(), order = [], now = 0, bones = true;
try { bad = new Set(JSON.parse(localStorage.getItem(store) || '[]')); } catch (e) { /* private window */ }
const known = new Set(data.images.map(im => im.file));
bad = new Set([...bad].filter(file => known.has(file)));

const make = (name, attributes, text) => {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
};
const shape = (name, attributes) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
};
const picked = () => $('keypoint').value === '' ? -1 : Number($('keypoint').value);
const certaintyOf = (image, k) => k < 0 ? image.certainty
  : Math.min(2, ...image.persons.map(p => p.points[k]).filter(p => p[2] > 0).map(p => p[3]));

function arrange() {
  const k = picked(), which = $('which').value, file = order.length ? data.images[order[now]].file : null;
  order = data.images.map((_, i) => i).filter(i => {
    const image = data.images[i];
    if (k >= 0 && certaintyOf(image, k) > 1) return false;
    if (which === 'bad') return bad.has(image.file);
    const of = image.persons.flatMap(p => k < 0 ? p.points : [p.points[k]]);
    return which === 'all' || of.some(p => p[2] === 1);
  });
  order.sort((a, b) => certaintyOf(data.images[a], k) - certaintyOf(data.images[b], k) || a - b);
  now = Math.max(0, order.findIndex(i => data.images[i].file === file));
  thumbs();
  show(now);
}

function thumbs() {
  $('thumbs').replaceChildren(...order.map((i, place) => {
    const image = data.images[i], node = make('button', {class: 'thumb', type: 'button'});
    node.append(make('img', {src: image.src, alt: '', loading: 'lazy'}),
      make('span', {}, certaintyOf(image, picked()).toFixed(2)));
    node.setAttribute('aria-label', image.file);
    node.addEventListener('click', () => { show(place); window.scrollTo({top: 0}); });
    return node;
  }));
}

function show(place) {
  now = Math.min(Math.max(place, 0), Math.max(order.length - 1, 0));
  const image = data.images[order[now]];
  $('viewer').hidden = !image;
  $('nothing').hidden = Boolean(image);
  [...$('thumbs').children].forEach((node, i) => {
    node.classList.toggle('now', i === now);
    node.classList.toggle('bad', bad.has(data.images[order[i]].file));
  });
  $('download').textContent = `Download list of bad images (${bad.size})`;
  $('download').disabled = bad.size === 0;
  $('mark').disabled = $('back').disabled = $('next').disabled = !image;
  $('place').textContent = image ? `${now + 1} of ${order.length}` : '';
  if (!image) return;
  $('picture').src = image.src;
  $('file').textContent = image.file;
  $('certainty').textContent = `certainty ${image.certainty.toFixed(2)}`;
  $('mark').setAttribute('aria-pressed', bad.has(image.file));
  $('mark').textContent = bad.has(image.file) ? 'Marked bad' : 'Mark as bad';
  draw(image);
  list(image);
}

function draw(image) {
  const [w, h] = image.size, unit = Math.max(w, h) / 160, k = picked();
  const svg = $('drawing');
  svg.setAttribute('viewBox', `0 0 ${w} ${h}`);
  svg.replaceChildren();
  for (const person of bones ? image.persons : []) {
    const [x1, y1, x2, y2] = person.box;
    svg.append(shape('rect', {x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: 'none', stroke: '#fff',
      'stroke-width': unit / 3, 'stroke-opacity': 0.8}));
    for (const [a, b, colour] of data.limbs) {
      const p = person.points[a], q = person.points[b];
      if (!p[2] || !q[2]) continue;
      const ends = {x1: p[0], y1: p[1], x2: q[0], y2: q[1], 'stroke-linecap': 'round',
        'stroke-opacity': k < 0 || k === a || k === b ? 1 : 0.3};
      svg.append(shape('line', {...ends, stroke: '#fff', 'stroke-width': unit * 1.5}));
      svg.append(shape('line', {...ends, stroke: colour, 'stroke-width': unit,
        'stroke-dasharray': p[2] === 2 && q[2] === 2 ? 'none' : `${unit * 2} ${unit * 2}`}));
    }
    person.points.forEach((p, i) => {
      if (!p[2]) return;
      const dot = shape('circle', {cx: p[0], cy: p[1], r: unit * (i === k ? 2.4 : 1.6),
        fill: p[2] === 2 ? data.colours[i] : '#fff', stroke: p[2] === 2 ? '#fff' : data.colours[i],
        'stroke-width': unit * (p[2] === 2 ? 0.4 : 0.8), opacity: k < 0 || k === i ? 1 : 0.4});
      const title = shape('title', {});
      title.textContent = `${data.names[i]}: ${p[3].toFixed(2)}, ${p[2] === 2 ? 'agreed' : 'weak'}`;
      dot.append(title);
      svg.append(dot);
    });
  }
}

function list(image) {
  const head = make('tr');
  head.append(make('th', {}, 'keypoint'), make('th', {}, 'label'), make('th', {class: 'n'}, 'certainty'));
  const rows = image.persons.flatMap((person, number) => person.points.map((p, k) => {
    const row = make('tr', {class: `${p[2] ? '' : 'none'} ${k === picked() ? 'picked' : ''}`});
    const name = image.persons.length > 1 ? `${number + 1}: ${data.names[k]}` : data.names[k];
    row.append(make('td', {}, name), make('td', {}, ['none', 'weak', 'agreed'][p[2]]),
      make('td', {class: 'n'}, p[3].toFixed(2)));
    return row;
  }));
  $('points').replaceChildren(head, ...rows);
}

function mark() {
  const image = data.images[order[now]];
  if (!image) return;
  if (!bad.delete(image.file)) bad.add(image.file);
  try { localStorage.setItem(store, JSON.stringify([...bad])); } catch (e) { /* kept until the page is closed */ }
  show(now);
}

function download() {
  const text = data.images.filter(im => bad.has(im.file)).map(im => im.file + '\\n').join('');
  const link = make('a', {download: 'bad_images.txt'});
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/plain'}));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

data.names.forEach((name, k) => $('keypoint').append(make('option', {value: k}, name)));
$('keypoint').addEventListener('change', arrange);
$('which').addEventListener('change', arrange);
$('back').addEventListener('click', () => show(now - 1));
$('next').addEventListener('click', () => show(now + 1));
$('mark').addEventListener('click', mark);
$('download').addEventListener('click', download);
document.addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === 'SELECT') return;
  const does = {ArrowRight: () => show(now + 1), j: () => show(now + 1), ArrowLeft: () => show(now - 1),
    k: () => show(now - 1), Home: () => show(0), End: () => show(order.length - 1), b: mark,
    s: () => { bones = !bones; show(now); }}[event.key];
  if (does) { event.preventDefault(); does(); }
});
arrange();
"""

BODY = """
<div class=bar><label>Keypoint <select id=keypoint><option value="">all of them</option></select></label>
<label>Show <select id=which><option value=all>all images</option><option value=weak>with weak points</option>
<option value=bad>marked bad</option></select></label><button id=download type=button></button></div>
<p id=nothing hidden>No image to show.</p>
<div id=viewer class=main><div><div class=stage><img id=picture alt="labelled image"><svg id=drawing role=img
aria-label="labels"></svg></div><p><span id=file></span> <span id=certainty></span></p>
<div class=bar><button id=back type=button>Previous</button><span id=place></span>
<button id=next type=button>Next</button>
<button id=mark type=button aria-pressed=false>Mark as bad</button></div></div><table id=points></table></div>
<div id=thumbs class=thumbs></div>
"""
