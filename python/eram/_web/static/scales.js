// The arithmetic of axes: round numbers, for counts and for durations.

const STEPS_OF_TIME = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400];

/* A round step so that at most `most` of them cover the value. */
function decimalStep(value, most) {
  const rough = value / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  for (const factor of [1, 2, 5, 10]) {
    if (factor * power >= rough * 0.9999) return factor * power;
  }
  return 10 * power;
}

/* The ticks of a y axis from 0 to a bit more than the largest value. Whole numbers for counts. */
export function ticks(largest, { isTime = false, most = 4 } = {}) {
  const smallest = isTime ? 0.001 : 1;
  const top = Math.max(largest, smallest);
  let step = decimalStep(top, most);
  if (isTime && top > 60) step = STEPS_OF_TIME.find((each) => each * most >= top) ?? step;
  if (!isTime) step = Math.max(1, step);
  const count = Math.max(1, Math.ceil((top / step) * 0.9999));
  return Array.from({ length: count + 1 }, (_, place) => place * step);
}

/* Every tenth minute by the clock, fewer where there is little room. */
export function minuteTicks(minutes, width) {
  const spacing = width < 360 ? 20 : 10;
  return minutes
    .map((date, place) => ({ date, place }))
    .filter(({ date }) => date.getMinutes() % spacing === 0);
}

/* How high a chart reaches at a place. */
export function heightAt({ kind, series }, place) {
  const values = series.map((each) => each.values[place] ?? 0);
  return kind === "stack" ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
}

/* A line closed along the bottom, to be filled. */
export function areaPath(points, bottom) {
  const [first, last] = [points[0], points.at(-1)].map(([x]) => x.toFixed(1));
  return `${linePath(points)}L${last},${bottom}L${first},${bottom}Z`;
}

/* Lines break where nothing is known. */
export function linePath(points) {
  let path = "";
  let pen = "M";
  for (const point of points) {
    if (point === null) {
      pen = "M";
      continue;
    }
    path += `${pen}${point[0].toFixed(1)},${point[1].toFixed(1)}`;
    pen = "L";
  }
  return path;
}

/* The pieces of a line between its breaks, a point alone being a piece too. */
export function pieces(points) {
  const found = [];
  let piece = [];
  for (const point of [...points, null]) {
    if (point !== null) piece.push(point);
    else if (piece.length) {
      found.push(piece);
      piece = [];
    }
  }
  return found;
}
