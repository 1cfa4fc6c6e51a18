(() => {
  "use strict";
  const controls = document.getElementById("controls");
  if (!controls) return;
  const prompts = Array.from(document.querySelectorAll("#answer-list article"));
  const boxes = Array.from(controls.querySelectorAll("input[type=checkbox]"));
  const first = new Set(boxes.filter((box) => box.checked));
  const field = (name) => document.getElementById("filter-" + name);
  const texts = new Map();
  const lower = (node) => {
    if (!texts.has(node)) texts.set(node, node.textContent.toLowerCase());
    return texts.get(node);
  };
  const chosen = (name) => (field(name) ? field(name).value : "");

  function apply() {
    const shown = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const words = chosen("text").toLowerCase().trim();
    const flag = chosen("flag");
    let count = 0;
    for (const prompt of prompts) {
      const open = [];
      for (const answer of prompt.querySelectorAll("section")) {
        answer.hidden = !shown.has(answer.dataset.model);
        if (!answer.hidden) open.push(answer);
      }
      const fits =
        ["kind", "category", "set"].every((name) => !chosen(name) || prompt.dataset[name] === chosen(name)) &&
        (!flag || open.some((answer) => Array.from(answer.querySelectorAll(".flag")).some((f) => f.textContent === flag))) &&
        (!words || lower(prompt.querySelector(".asked")).includes(words) || open.some((answer) => lower(answer.querySelector("pre")).includes(words)));
      prompt.hidden = !fits;
      if (fits) count += 1;
    }
    document.getElementById("count").textContent = count + " of " + prompts.length + " prompts";
  }

  function check(wanted) {
    for (const box of boxes) box.checked = wanted(box);
    apply();
  }

  controls.hidden = false;
  controls.addEventListener("input", apply);
  document.getElementById("all-models").addEventListener("click", () => check(() => true));
  document.getElementById("no-models").addEventListener("click", () => check(() => false));
  document.getElementById("first-models").addEventListener("click", () => check((box) => first.has(box)));
  document.getElementById("clear").addEventListener("click", () => {
    for (const name of ["text", "kind", "category", "flag", "set"]) if (field(name)) field(name).value = "";
    apply();
  });
  apply();
})();
