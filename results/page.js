"use strict";
// The figures' expressions are interpreted, not compiled, so that the page's policy can forbid eval.
const options = { mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: { theme: "custom" } };
const figures = JSON.parse(document.getElementById("figures").textContent);
const views = [];
for (const [name, spec] of Object.entries(figures)) {
  const place = document.getElementById(name);
  if (place) {
    vegaEmbed(place, spec, options).then(
      (result) => views.push(result.view),
      (error) => { place.textContent = "This figure cannot be drawn: " + error.message; },
    );
  }
}
// Paper is narrower than most screens.
const fit = () => views.forEach((view) => view.resize().run());
addEventListener("beforeprint", fit);
addEventListener("afterprint", fit);
