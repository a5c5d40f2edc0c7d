"""What a browser runs in a page of timelines: filters, the order of videos, and a player that follows the axis."""

STYLE = """
.controls { position: sticky; top: 0; background: Canvas; padding: .5rem 0; z-index: 9999; display: flex; flex-wrap: wrap;
  gap: .3rem 1.5rem; border-bottom: 1px solid var(--line); }
.controls input[type=range] { width: 12rem; vertical-align: middle; }
.classes { display: flex; flex-wrap: wrap; gap: .2rem .9rem; border: 0; margin: .6rem 0; padding: 0; }
.classes i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; margin: 0 .3em; }
video { display: block; margin: 0 0 .4rem 9rem; height: 180px; max-width: calc(100% - 9rem); background: #000; }
.playable .track, .playable td { cursor: pointer; }
section:not(.playable) .head { display: none; }
.head { position: absolute; top: 0; bottom: 0; width: 2px; background: CanvasText; z-index: 9998; pointer-events: none; }
"""

SCRIPT = """
const byId = id => document.getElementById(id);
const slider = byId("score"), shown = byId("shown"), order = byId("order"), list = byId("videos");
const boxes = [...document.querySelectorAll("input[data-class]")];
const sections = [...document.querySelectorAll("section")];
const marks = section => [...section.querySelectorAll("[data-label]")];

function update() {
  const least = Number(slider.value), chosen = new Set(boxes.filter(box => box.checked).map(box => box.dataset.class));
  shown.textContent = least.toFixed(2);
  for (const section of sections) {
    let wanted = chosen.size === boxes.length;
    for (const mark of marks(section)) {
      const ofClass = chosen.has(mark.dataset.label);
      wanted ||= ofClass;
      mark.hidden = !ofClass || Number(mark.dataset.score ?? Infinity) < least;
    }
    section.hidden = !wanted;
  }
}

function sort() {
  const hard = section => section.dataset.precision === "" ? 2 : Number(section.dataset.precision);
  const name = (a, b) => a.dataset.video.localeCompare(b.dataset.video);
  list.append(...sections.sort(order.value === "name" ? name : (a, b) => hard(a) - hard(b) || name(a, b)));
}

function play(section) {
  const video = section.querySelector("video"), seconds = Number(section.dataset.seconds);
  if (!video) return;
  const heads = section.querySelectorAll(".head");
  const place = () => { for (const head of heads) head.style.left = `${100 * Math.min(video.currentTime / seconds, 1)}%`; };
  const follow = () => { place(); if (!video.paused) requestAnimationFrame(follow); };
  video.addEventListener("play", follow);
  for (const moved of ["seeking", "seeked", "timeupdate"]) video.addEventListener(moved, place);
  section.addEventListener("click", event => {
    const at = event.target.closest("[data-start]"), track = event.target.closest(".track");
    if (at) video.currentTime = Number(at.dataset.start);
    else if (track) {
      const box = track.getBoundingClientRect();
      video.currentTime = seconds * (event.clientX - box.left) / box.width;
    }
  });
}

slider.addEventListener("input", update);
for (const box of boxes) box.addEventListener("change", update);
for (const [id, checked] of [["all", true], ["none", false]])
  byId(id).addEventListener("click", () => { for (const box of boxes) box.checked = checked; update(); });
order.addEventListener("change", sort);
sections.forEach(play);
sort();
update();
"""
