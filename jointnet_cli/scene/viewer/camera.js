"use strict";
// Where the viewer stands and looks, and the keys, pointers and wheels that change it.

const REACH = 0.3; // how far one may move, as a part of the nearest distance
const NARROWEST = 5, WIDEST = 110; // fields of view in degrees, vertical
const STEPS = {
  KeyW: [0, 0, -1], KeyS: [0, 0, 1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyE: [0, 1, 0], KeyQ: [0, -1, 0],
};
const TURNS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const radians = degrees => degrees * Math.PI / 180;

// `goal` is where the view goes, `now` where it is: yaw to the right and pitch up in radians, field of view in
// degrees, and x, y, z in parts of the reach.
class View {
  constructor(data) {
    const { kind, span, wrap } = data.projection, across = radians(span);
    this.cylinder = kind === "cylindrical";
    this.wrap = wrap;
    this.focal = this.cylinder ? data.width / across : data.width / (2 * Math.tan(across / 2));
    this.across = across;
    this.upward = 2 * Math.atan(data.height / 2 / this.focal);
    this.drifting = false;
    this.moved = () => {};
    this.reset(innerWidth / innerHeight);
  }

  // All of a perspective picture; of a panorama its whole height, and at least 65 degrees across.
  reset(aspect) {
    const least = this.cylinder ? Math.min(this.across, radians(65)) : this.across;
    const fov = Math.max(this.upward, 2 * Math.atan(Math.tan(least / 2) / aspect));
    this.home = clamp(fov * 180 / Math.PI, NARROWEST, 75);
    this.goal = { yaw: 0, pitch: 0, fov: this.home, x: 0, y: 0, z: 0 };
    this.now = { ...this.goal };
    this.moved();
  }

  turn(yaw, pitch) {
    const { goal } = this;
    goal.yaw = this.wrap ? goal.yaw + yaw : clamp(goal.yaw + yaw, -this.across / 2, this.across / 2);
    goal.pitch = clamp(goal.pitch + pitch, -this.upward / 2, this.upward / 2);
    this.moved();
  }

  // By parts of the reach: right, up and back as the viewer looks, and never farther than the reach.
  move(right, up, back) {
    const { goal } = this, sine = Math.sin(goal.yaw), cosine = Math.cos(goal.yaw);
    const x = goal.x + right * cosine - back * sine, y = goal.y + up, z = goal.z + right * sine + back * cosine;
    const shrink = 1 / Math.max(1, Math.hypot(x, y, z));
    Object.assign(goal, { x: x * shrink, y: y * shrink, z: z * shrink });
    this.moved();
  }

  zoom(factor) {
    this.goal.fov = clamp(this.goal.fov * factor, NARROWEST, WIDEST);
    this.moved();
  }

  // Towards the goal, for so many seconds; whether anything changed.
  step(seconds, clock) {
    const share = calm.matches ? 1 : 1 - Math.exp(-seconds / 0.09);
    let change = 0;
    if (this.drifting) {
      const { goal } = this;
      goal.yaw += this.wrap ? 0.035 * seconds : 0;
      const turned = this.wrap ? goal.yaw : 0, sway = 0.75 * Math.sin(clock * 0.55);
      Object.assign(goal, { x: sway * Math.cos(turned), z: sway * Math.sin(turned), y: 0.3 * Math.sin(clock * 0.37) });
    }
    for (const name of Object.keys(this.goal)) {
      const gap = this.goal[name] - this.now[name];
      this.now[name] = Math.abs(gap) < 1e-5 ? this.goal[name] : this.now[name] + gap * share;
      change += Math.abs(gap);
    }
    return change > 0;
  }

  aim(camera, reach, aspect) {
    const { yaw, pitch, fov, x, y, z } = this.now;
    camera.position.set(x * reach, y * reach, z * reach);
    camera.rotation.set(pitch, -yaw, 0, "YXZ");
    camera.fov = fov;
    camera.aspect = aspect;
    camera.updateProjectionMatrix();
    camera.updateMatrixWorld();
  }
}

// `touched` is told of every gesture, `point` of a place that the mouse is over or a finger tapped, or of null.
function listen(canvas, view, { touched, point }) {
  const pointers = new Map();
  let travelled = 0, shifting = false;
  const middle = () => {
    const all = [...pointers.values()], sum = all.reduce(([x, y], at) => [x + at[0], y + at[1]], [0, 0]);
    const apart = all.length > 1 ? Math.hypot(all[0][0] - all[1][0], all[0][1] - all[1][1]) : 0;
    return { x: sum[0] / all.length, y: sum[1] / all.length, apart };
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    if (!pointers.size) travelled = 0;
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    shifting = event.shiftKey || event.button !== 0;
    canvas.classList.add("held");
    touched();
  });
  canvas.addEventListener("pointermove", event => {
    if (!pointers.has(event.pointerId)) {
      if (event.pointerType === "mouse") point(event.clientX, event.clientY);
      return;
    }
    const before = middle();
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = middle(), x = after.x - before.x, y = after.y - before.y;
    travelled += Math.hypot(x, y) + Math.abs(after.apart - before.apart);
    if (pointers.size > 1 || shifting) {
      view.move(-3 * x / innerHeight, 3 * y / innerHeight, 0);
      if (pointers.size > 1) view.move(0, 0, -5 * (after.apart - before.apart) / innerHeight);
    } else {
      const turn = radians(view.now.fov) / innerHeight;
      view.turn(-x * turn, y * turn);
    }
    if (travelled > 6) point(null);
  });
  const release = event => {
    if (!pointers.delete(event.pointerId)) return;
    canvas.classList.toggle("held", pointers.size > 0);
    if (event.type === "pointerup" && !pointers.size && travelled <= 6) point(event.clientX, event.clientY);
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", event => event.pointerType === "mouse" && point(null));
  canvas.addEventListener("contextmenu", event => event.preventDefault());
  canvas.addEventListener("wheel", event => {
    event.preventDefault();
    touched();
    view.zoom(Math.exp(clamp(event.deltaY * (event.deltaMode ? 30 : 1), -200, 200) * 0.0012));
  }, { passive: false });
}
