(() => {
  const all = (query, within = document) => [...within.querySelectorAll(query)];
  const tip = document.getElementById("tip");
  const scope = (element) => element.closest("[data-scope]") || document;
  document.addEventListener("pointerover", (event) => {
    const over = event.target.closest("[data-key]");
    all(".hot").forEach((each) => each.classList.remove("hot"));
    if (over) all("[data-key]", scope(over)).filter((each) => each.dataset.key === over.dataset.key)
      .forEach((each) => each.classList.add("hot"));
  });
  document.addEventListener("click", (event) => {
    const told = event.target.closest("svg [data-key]")?.querySelector("title") || event.target.closest("[title]");
    tip.textContent = told ? told.getAttribute("title") || told.textContent : "";
  });
  all(".legend button").forEach((button) => button.addEventListener("click", () => {
    const off = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!off));
    all(`[data-series="${button.dataset.shows}"]`, button.closest("figure"))
      .forEach((each) => each.classList.toggle("off", off));
  }));
  const value = (row, column) => {
    const cell = row.cells[column], number = parseFloat(cell.dataset.v);
    return Number.isNaN(number) ? cell.textContent : number;
  };
  const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : Number(a > b)) : typeof a === "number" ? -1 : 1;
  all("table.sort th button").forEach((button) => button.addEventListener("click", () => {
    const table = button.closest("table"), column = button.parentElement.cellIndex;
    const way = button.dataset.way === "1" ? -1 : 1;
    all("th button", table).forEach((each) => delete each.dataset.way);
    button.dataset.way = way;
    const rows = [...table.tBodies[0].rows].sort((a, b) => way * order(value(a, column), value(b, column)));
    table.tBodies[0].append(...rows);
  }));
  addEventListener("beforeprint", () => all("details").forEach((each) => { each.open = true; }));
})();
