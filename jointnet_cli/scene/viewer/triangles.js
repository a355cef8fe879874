"use strict";
// From the codes of a layer to triangles, cut where the distance jumps.

const CUT = 1.3; // a triangle's farthest corner is at most so many times as distant as its nearest
const HIDDEN = 0, SKY = 1, FIRST = 2, LAST = 65535;
const SKY_LOGARITHM = 60;
const ABOVE = 1e-3; // of disparity: what lies on a layer is in front of it
const AROUND = 2; // vertices in which the far side of a jump is looked for: edges of depth maps are as soft

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}

// Pixels that are vertices, as `grid.spread` in Python has them.
function spread(last, count) {
  const steps = count - 1;
  return Int32Array.from({ length: count }, (_, number) => Math.floor((2 * number * last + steps) / (2 * steps)));
}

async function inflate(base64) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A layer: `place`, three numbers a vertex (column, row, disparity or -1 for the sky), and which vertices are `hidden`.
async function decode(layer, data) {
  const bytes = await inflate(layer.codes), count = data.rows * data.columns;
  const columns = spread(data.projection.wrap ? data.width : data.width - 1, data.columns);
  const rows = spread(data.height - 1, data.rows);
  const place = new Float32Array(3 * count), hidden = new Uint8Array(count);
  const step = Math.log(layer.high / layer.low) / (LAST - FIRST);
  const { scale, shift } = data.scale;
  for (let row = 0, vertex = 0; row < data.rows; row++) {
    for (let column = 0, code = 0; column < data.columns; column++, vertex++) {
      code = (code + bytes[vertex] + 256 * bytes[vertex + count]) & 65535;
      place[3 * vertex] = columns[column];
      place[3 * vertex + 1] = rows[row];
      const inverse = 1 / (layer.low * Math.exp((code - FIRST) * step));
      place[3 * vertex + 2] = code < FIRST ? -1 : Math.max(0, (inverse - shift) / scale);
      hidden[vertex] = code === HIDDEN ? 1 : 0;
    }
  }
  return { place, hidden };
}

// Triangles of a layer at a range: `index` and their `count`, and `flaps`, vertices of triangles of their own.
// A triangle over a jump is cut out and laid at the farthest distance around it, but on the layer `under` it where there
// is one: from the picture's own viewpoint nothing is missing, and nothing spans the gap.
function triangulate({ place, hidden }, data, range, index, under) {
  const { rows, columns } = data, logarithm = new Float32Array(rows * columns), most = Math.log(CUT);
  for (let vertex = 0; vertex < logarithm.length; vertex++) {
    const disparity = place[3 * vertex + 2];
    logarithm[vertex] = disparity < 0 ? SKY_LOGARITHM : -Math.log(range.scale * disparity + range.shift);
  }
  const farthest = (row, column) => {
    let found = row * columns + column;
    for (let y = Math.max(0, row - AROUND); y <= Math.min(rows - 1, row + 1 + AROUND); y++) {
      for (let x = Math.max(0, column - AROUND); x <= Math.min(columns - 1, column + 1 + AROUND); x++) {
        const vertex = y * columns + x;
        if (!hidden[vertex] && logarithm[vertex] > logarithm[found]) found = vertex;
      }
    }
    return place[3 * found + 2];
  };
  const flaps = [];
  let count = 0;
  const add = (row, column, a, b, c) => {
    if (hidden[a] | hidden[b] | hidden[c]) return;
    const x = logarithm[a], y = logarithm[b], z = logarithm[c];
    if (Math.max(x, y, z) - Math.min(x, y, z) <= most) {
      index[count++] = a;
      index[count++] = b;
      index[count++] = c;
      return;
    }
    const disparity = farthest(row, column);
    for (const corner of [a, b, c]) {
      const lies = under && !under.hidden[corner] ? Math.max(disparity, under.place[3 * corner + 2] + ABOVE) : disparity;
      flaps.push(place[3 * corner], place[3 * corner + 1], lies);
    }
  };
  for (let row = 0; row + 1 < rows; row++) {
    for (let column = 0; column + 1 < columns; column++) {
      const a = row * columns + column, b = a + 1, c = a + columns, d = c + 1;
      // Along the diagonal whose ends are nearer in depth, so that an edge loses one triangle, not both.
      if (Math.abs(logarithm[a] - logarithm[d]) < Math.abs(logarithm[b] - logarithm[c])) {
        add(row, column, a, c, d);
        add(row, column, a, d, b);
      } else {
        add(row, column, a, c, b);
        add(row, column, c, d, b);
      }
    }
  }
  return { count, flaps: new Float32Array(flaps) };
}

// The distance in metres than which one vertex in a hundred is nearer.
function nearest({ place, hidden }, range) {
  const shown = [];
  for (let vertex = 0; vertex < hidden.length; vertex += Math.ceil(hidden.length / 20000)) {
    if (!hidden[vertex] && place[3 * vertex + 2] >= 0) shown.push(place[3 * vertex + 2]);
  }
  shown.sort((a, b) => b - a);
  return shown.length ? 1 / (range.scale * shown[Math.floor(shown.length / 100)] + range.shift) : 1 / range.shift;
}
