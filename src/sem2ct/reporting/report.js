"use strict";
// Click an image to enlarge it: arrows go to its neighbours, another click shows it pixel for pixel.
const images = [...document.querySelectorAll("main img")];
const view = document.querySelector("dialog");
const large = view.querySelector("img");
const words = view.querySelector("p");
let shown = 0;

function show(index) {
  shown = (index + images.length) % images.length;
  large.src = images[shown].src;
  large.alt = words.textContent = images[shown].alt;
  view.classList.remove("actual");
  view.classList.toggle("tile", images[shown].closest(".pixels") !== null);
  if (!view.open) view.showModal();
}

images.forEach((image, index) => {
  image.tabIndex = 0;
  image.addEventListener("click", () => show(index));
  image.addEventListener("keydown", (event) => { if (event.key === "Enter") show(index); });
});
large.addEventListener("click", () => view.classList.toggle("actual"));
words.addEventListener("click", () => view.close());
view.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(shown + 1);
  if (event.key === "ArrowLeft") show(shown - 1);
});
document.documentElement.dataset.ready = String(images.length);
