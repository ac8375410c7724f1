"use strict";
// The figures' expressions are interpreted, not compiled, so that the page's policy can forbid eval.
const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: { theme: "custom" } };
const figures = JSON.parse(document.getElementById("figures").textContent);
const views = [];

// One after the other from the top, so that the page can be read and scrolled while those below are drawn.
async function draw() {
  for (const [name, spec] of Object.entries(figures)) {
    const place = document.getElementById(name);
    if (place === null) continue;
    await new Promise((resolve) => setTimeout(resolve));
    try {
      views.push((await vegaEmbed(place, spec, options)).view);
    } catch (error) {
      place.textContent = `This figure cannot be drawn: ${error.message}`;
    }
  }
}
draw();

// Paper is narrower than most screens.
const fit = () => views.forEach((view) => view.resize().run());
addEventListener("beforeprint", fit);
addEventListener("afterprint", fit);
