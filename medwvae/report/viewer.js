// Flip between methods in place: the eye sees a difference that two pictures side by side hide.
const viewer = document.getElementById("viewer");
let tiles = [], column = 0, row = 0;
const show = () => {
  const pictures = tiles[column];
  const picture = pictures[Math.min(row, pictures.length - 1)];
  const frame = picture.parentElement;
  const ratio = parseFloat(frame.style.aspectRatio);
  const image = viewer.querySelector("img");
  image.src = picture.src;
  image.alt = picture.alt;
  image.style.aspectRatio = ratio;
  image.style.width = `min(92vw, ${76 * ratio}vh)`;
  viewer.querySelector("p").textContent = frame.parentElement.querySelector(".name").innerText.replace(/\n+/g, " · ");
};
for (const figure of document.querySelectorAll("figure.panel")) {
  const columns = [...figure.querySelectorAll(".column")].map((c) => [...c.querySelectorAll("img")]).filter((c) => c.length);
  columns.forEach((pictures, c) => pictures.forEach((picture, r) => {
    picture.addEventListener("click", () => { [tiles, column, row] = [columns, c, r]; show(); viewer.showModal(); });
    if (r) return; // one stop of the tab key per method is enough
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      picture.click();
    });
  }));
}
viewer.addEventListener("keydown", (event) => {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (!dx && !dy) return;
  event.preventDefault();
  column = (column + dx + tiles.length) % tiles.length;
  row = (row + dy + 3) % 3;
  show();
});
viewer.addEventListener("click", () => viewer.close());
// On paper nothing can be opened.
for (const [moment, open] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(moment, () => {
    for (const one of document.querySelectorAll("details")) {
      if (open && !one.open) one.dataset.closed = "";
      if ("closed" in one.dataset) one.open = open;
      if (!open) delete one.dataset.closed;
    }
  });
}
// What scrolls sideways can be reached by the tab key, and nothing else of its kind.
const reach = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const scrolls = target.scrollWidth > target.clientWidth;
    if (!scrolls) { target.removeAttribute("tabindex"); continue; }
    target.tabIndex = 0;
    if (target.hasAttribute("aria-label")) continue;
    const names = [target.closest("section").querySelector("h2"), target.querySelector("caption, svg")].filter(Boolean);
    target.setAttribute("role", "region");
    target.setAttribute("aria-label", names.map((one) => one.getAttribute("aria-label") ?? one.textContent).join(": "));
  }
});
document.querySelectorAll(".scroll").forEach((one) => reach.observe(one));
