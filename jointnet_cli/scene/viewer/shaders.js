"use strict";
// A vertex is (column, row, disparity), of the sky (column, row, -1); its place follows from the range that is set.

const DECLARED = `
uniform vec2 size;        // of the picture, in pixels
uniform float focal;      // pixels per unit on the image plane or the cylinder
uniform bool cylinder;
uniform vec2 range;       // distance = 1 / (range.x * disparity + range.y)
uniform float dome;       // metres to the sky
uniform vec2 screen;      // of what is drawn on, in pixels
`;

const VERTEX = `${DECLARED}
uniform float pitch;      // pixels between vertices
varying vec2 at;
varying float disparity, metres;
varying vec3 toward;
void main() {
  bool sky = position.z < -.5;
  at = position.xy;
  disparity = sky ? 0. : position.z;
  metres = sky ? 0. : 1. / (range.x * disparity + range.y);
  // The column after the last one is the first one, to the bit: no gap can open between them.
  vec2 angle = vec2(mod(at.x, size.x) + .5 - size.x / 2., size.y / 2. - at.y - .5) / focal;
  vec3 ray = cylinder ? vec3(sin(angle.x), angle.y, -cos(angle.x)) : vec3(angle, -1.);
  toward = sky ? ray * dome : ray * metres - cameraPosition;
  vec4 place = viewMatrix * vec4(toward + cameraPosition, 1.);
  gl_Position = projectionMatrix * place;
  float extent = pitch / focal * (sky ? dome : metres);
  gl_PointSize = clamp(.8 * extent * projectionMatrix[1][1] * screen.y / 2. / -place.z, 1.5, 80.);
}`;

// What lies behind everything and beyond the picture's edges: its blurred colours, fading into the ground.
const SURROUNDINGS = `
uniform sampler2D picture, backdrop, palette;
uniform vec3 ground;
uniform float backdrop_rows;
uniform vec2 tones;
uniform float wipe;       // left of this share of the screen is depth
uniform bool fill;
bool inDepth() { return gl_FragCoord.x < wipe * screen.x; }
vec3 coloured(float disparity) {
  float tone = clamp((disparity - tones.x) / (tones.y - tones.x), 0., 1.);
  return texture2D(palette, vec2((tone * 255. + .5) / 256., .5)).rgb;
}
vec3 surroundings(vec3 ray) {
  if (!fill) return ground;
  float ahead = cylinder ? length(ray.xz) : -ray.z;
  float across = cylinder ? atan(ray.x, -ray.z) : ray.x / max(ahead, 1e-4);
  vec2 point = vec2(across, ray.y / max(ahead, 1e-4)) * focal;
  float beyond = length(max(abs(point) - size / 2., 0.)) / focal;
  float fade = ahead > 0. ? exp(-3. * pow(beyond, 1.25)) : 0.;
  vec2 uv = vec2(point.x, -point.y) / size + .5, apart = vec2(.11 * beyond * focal / size.x, 0.);
  // Its upper half holds colours, its lower half disparities; the farther out, the wider they are mixed.
  uv.y = clamp(uv.y, .5 / backdrop_rows, 1. - .5 / backdrop_rows) / 2. + (inDepth() ? .5 : 0.);
  vec3 colour = texture2D(backdrop, uv).rgb;
  if (beyond > 0.) {
    for (int tap = 1; tap <= 3; tap++) {
      vec2 aside = float(tap) * apart;
      colour += texture2D(backdrop, uv + aside).rgb + texture2D(backdrop, uv - aside).rgb;
    }
    colour /= 7.;
  }
  return mix(ground, inDepth() ? coloured(colour.r) : colour, fade);
}`;

const FRAGMENT = `${DECLARED}${SURROUNDINGS}
uniform int surface;      // 0 mesh, 1 points, 2 wireframe
uniform float mesh_size;  // pixels of the picture between the lines of the wireframe
uniform bvec2 closed;     // whether the picture's sides, and its top and bottom, go on
varying vec2 at;
varying float disparity, metres;
varying vec3 toward;

// Catmull-Rom by nine bilinear samples: what is enlarged shows no diamonds.
vec3 sampled(vec2 uv) { return textureLod(picture, uv, 0.).rgb; }
vec3 enlarged(vec2 uv) {
  vec2 texel = uv * size, centre = floor(texel - .5) + .5, f = texel - centre;
  vec2 w0 = f * (-.5 + f * (1. - .5 * f)), w1 = 1. + f * f * (-2.5 + 1.5 * f);
  vec2 w2 = f * (.5 + f * (2. - 1.5 * f)), w3 = f * f * (-.5 + .5 * f);
  vec2 w12 = w1 + w2, a = (centre - 1.) / size, b = (centre + w2 / w12) / size, c = (centre + 2.) / size;
  vec3 sum = sampled(vec2(b.x, b.y)) * w12.x * w12.y
    + (sampled(vec2(b.x, a.y)) * w0.y + sampled(vec2(b.x, c.y)) * w3.y) * w12.x
    + (sampled(vec2(a.x, b.y)) * w0.x + sampled(vec2(c.x, b.y)) * w3.x) * w12.y
    + sampled(a) * w0.x * w0.y + sampled(c) * w3.x * w3.y
    + sampled(vec2(c.x, a.y)) * w3.x * w0.y + sampled(vec2(a.x, c.y)) * w0.x * w3.y;
  return clamp(sum, 0., 1.);
}

void main() {
  vec2 uv = (at + .5) / size, right = dFdx(uv), down = dFdy(uv), scale = fwidth(at);
  vec3 colour;
  if (inDepth()) colour = coloured(disparity);
  else if (surface == 0 && max(scale.x, scale.y) < 1.) colour = enlarged(uv);
  else colour = textureGrad(picture, uv, right, down).rgb;
  if (surface == 1 && length(gl_PointCoord - .5) > .5) discard;
  if (surface == 2) {
    vec2 cell = at / mesh_size, away = abs(fract(cell - .5) - .5) / max(fwidth(cell), 1e-5);
    float diagonal = abs(fract(cell.x + cell.y - .5) - .5) / max(fwidth(cell.x + cell.y), 1e-5);
    float line = 1. - smoothstep(.3, 1.3, min(min(away.x, away.y), diagonal));
    colour = mix(ground + colour * .13, mix(colour, vec3(1.), .12), line);
  }
  if (surface == 0 && fill) {
    vec2 edge = min(at + .5, size - at - .5) / (.04 * size.y);
    edge = mix(edge, vec2(1.), vec2(closed));
    float inner = min(edge.x, edge.y);
    if (inner < 1.) colour = mix(surroundings(toward), colour, smoothstep(0., 1., inner));
  }
  gl_FragColor = vec4(colour, 1.);
}`;

const BACKDROP_VERTEX = `
varying vec3 toward;
void main() {
  vec2 reach = vec2(projectionMatrix[0][0], projectionMatrix[1][1]);
  toward = transpose(mat3(viewMatrix)) * vec3(position.xy / reach, -1.);
  gl_Position = vec4(position.xy, 1., 1.);
}`;

const BACKDROP_FRAGMENT = `${DECLARED}${SURROUNDINGS}
varying vec3 toward;
void main() { gl_FragColor = vec4(surroundings(toward), 1.); }`;

// Distances as colours: 24 bits of the logarithm between the two bounds, all ones for the sky; alpha says that something
// is there.
const PICK_FRAGMENT = `
uniform vec2 bounds;
varying float metres;
void main() {
  float code = metres > 0. ? clamp(log(metres / bounds.x) / log(bounds.y / bounds.x), 0., .999) : 1.;
  vec3 bytes = floor(vec3(code * 255., fract(code * 255.) * 255., fract(code * 65025.) * 255.));
  gl_FragColor = vec4(metres > 0. ? bytes / 255. : vec3(1.), 1.);
}`;
