// Charts that stand in the window are drawn first, the others one by one when the browser has nothing else to do.
// Streamlit draws a chart when it has a width, and so all those of a page at once.
{
  const charts = document.getElementsByClassName("stVegaLiteChart");
  const style = document.createElement("style");
  style.textContent = ".stVegaLiteChart:not([data-turn=come]) { width: 0 !important; min-height: 15rem; }";
  document.head.append(style);

  const draw = chart => { chart.dataset.turn = "come"; };
  const window_ = new IntersectionObserver(entries => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) draw(target);
  });

  const isBusy = () =>
    document.querySelector("[data-test-script-state=running], [data-testid=stSkeleton]") ||
    [...charts].some(chart => chart.clientWidth && !chart.querySelector("canvas, svg"));
  const drawNext = () => {
    const next = [...charts].find(chart => chart.dataset.turn === "awaited");
    if (!next) return;
    const wait = isBusy();
    if (!wait) draw(next);
    drawSoon(wait ? 100 : 0);
  };
  let soon;
  const drawSoon = ms => {
    clearTimeout(soon);
    // Safari cannot tell when it is idle.
    soon = setTimeout(() => (window.requestIdleCallback ?? setTimeout)(drawNext), ms);
  };

  new MutationObserver(() => {
    for (const chart of charts) {
      if (chart.dataset.turn) continue;
      chart.dataset.turn = "awaited";
      window_.observe(chart);
      drawSoon(0);
    }
  }).observe(document, { subtree: true, childList: true });
}
