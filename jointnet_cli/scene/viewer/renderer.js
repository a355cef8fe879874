"use strict";
// The scene on the graphics card: what is drawn, what is under a point, and stills.

const SURFACES = { mesh: 0, points: 1, wire: 2 };
const LINE_APART = 14; // pixels of the screen between the lines of the wireframe
const STILL_SIDE = 3840;

class Stage {
  constructor(canvas, data, view, images, layers) {
    this.canvas = canvas;
    this.data = data;
    this.view = view;
    this.layers = layers;
    this.surface = "mesh";
    this.renderer = new THREE.WebGLRenderer({ canvas, antialias: true, powerPreference: "high-performance" });
    this.camera = new THREE.PerspectiveCamera();
    this.scene = new THREE.Scene();
    this.target = new THREE.WebGLRenderTarget(1, 1, { minFilter: THREE.NearestFilter, magFilter: THREE.NearestFilter });
    const { kind, wrap } = data.projection, cylinder = kind === "cylindrical";
    this.values = {
      size: new THREE.Vector2(data.width, data.height), focal: view.focal, cylinder, pitch: data.width / data.columns,
      range: new THREE.Vector2(), dome: 1, bounds: new THREE.Vector2(), screen: new THREE.Vector2(1, 1),
      backdrop: this.texture(images.backdrop, wrap, false), backdrop_rows: images.backdrop.naturalHeight / 2,
      palette: this.palette(), tones: new THREE.Vector2(...data.tones), ground: new THREE.Vector3(9 / 255, 11 / 255, 14 / 255),
      wipe: 0, fill: true, surface: 0, mesh_size: 1, closed: [wrap, false],
    };
    this.uniforms = Object.fromEntries(Object.entries(this.values).map(([name, value]) => [name, { value }]));
    this.meshes = layers.map((layer, number) => this.build(layer, this.texture(images.layers[number], wrap, true), number));
    const corners = new THREE.BufferGeometry();
    corners.setAttribute("position", new THREE.BufferAttribute(new Float32Array([-1, -1, 0, 3, -1, 0, -1, 3, 0]), 3));
    this.behind = new THREE.Mesh(corners, this.material({
      vertexShader: BACKDROP_VERTEX, fragmentShader: BACKDROP_FRAGMENT, depthTest: false, depthWrite: false,
    }));
    this.behind.frustumCulled = false;
    this.behind.renderOrder = -1;
    this.scene.add(this.behind);
    this.show("mesh");
  }

  set(name, value) {
    this.uniforms[name].value = value;
  }

  material({ picture = null, ...settings }) {
    const uniforms = { ...this.uniforms, picture: { value: picture } };
    return new THREE.ShaderMaterial({ uniforms, side: THREE.DoubleSide, ...settings });
  }

  texture(image, wrap, sharp) {
    const most = this.renderer.capabilities.maxTextureSize;
    const shrink = Math.min(1, most / Math.max(image.naturalWidth, image.naturalHeight));
    let source = image;
    if (shrink < 1) {
      source = document.createElement("canvas");
      source.width = Math.floor(image.naturalWidth * shrink);
      source.height = Math.max(1, Math.floor(image.naturalHeight * shrink));
      source.getContext("2d").drawImage(image, 0, 0, source.width, source.height);
    }
    const texture = new THREE.Texture(source);
    texture.flipY = false;
    texture.wrapS = wrap ? THREE.RepeatWrapping : THREE.ClampToEdgeWrapping;
    texture.generateMipmaps = sharp;
    texture.minFilter = sharp ? THREE.LinearMipmapLinearFilter : THREE.LinearFilter;
    texture.anisotropy = sharp ? Math.min(8, this.renderer.capabilities.getMaxAnisotropy()) : 1;
    texture.needsUpdate = true;
    return texture;
  }

  palette() {
    const colours = bytesOf(this.data.palette), texels = new Uint8Array(1024).fill(255);
    for (let tone = 0; tone < 256; tone++) texels.set(colours.subarray(3 * tone, 3 * tone + 3), 4 * tone);
    const texture = new THREE.DataTexture(texels, 256, 1);
    texture.minFilter = texture.magFilter = THREE.LinearFilter;
    texture.needsUpdate = true;
    return texture;
  }

  // Mesh, flaps and points of a layer, which share one array of vertices.
  build(layer, picture, number) {
    // Where two layers touch, the front is seen.
    const offset = { polygonOffset: number > 0, polygonOffsetFactor: 1, polygonOffsetUnits: 4 };
    const material = this.material({ picture, vertexShader: VERTEX, fragmentShader: FRAGMENT, ...offset });
    const pick = this.material({ vertexShader: VERTEX, fragmentShader: PICK_FRAGMENT });
    const places = new THREE.BufferAttribute(layer.place, 3);
    const solid = new THREE.BufferGeometry(), dots = new THREE.BufferGeometry();
    solid.setAttribute("position", places);
    solid.setIndex(new THREE.BufferAttribute(new Uint32Array(6 * (this.data.rows - 1) * (this.data.columns - 1)), 1));
    dots.setAttribute("position", places);
    // Where the picture closes, its last column of vertices is its first.
    const { columns } = this.data, last = this.data.projection.wrap ? columns - 1 : -1;
    const shown = (hidden, vertex) => !hidden && vertex % columns !== last;
    const chosen = Uint32Array.from(layer.hidden.keys()).filter(vertex => shown(layer.hidden[vertex], vertex));
    dots.setIndex(new THREE.BufferAttribute(chosen, 1));
    const parts = {
      solid: new THREE.Mesh(solid, material),
      flaps: new THREE.Mesh(new THREE.BufferGeometry(), material),
      dots: new THREE.Points(dots, material),
    };
    for (const part of Object.values(parts)) {
      part.frustumCulled = false;
      part.userData = { material, pick };
      this.scene.add(part);
    }
    return parts;
  }

  // Metres at which disparity 1 and 0 lie; triangles are cut anew unless `quick`.
  setRange(near, far, quick = false) {
    const range = { scale: 1 / near - 1 / far, shift: 1 / far };
    this.uniforms.range.value.set(range.scale, range.shift);
    this.set("dome", 20 * far);
    this.uniforms.bounds.value.set(near / 2, far * 2);
    this.reach = REACH * nearest(this.layers[0], range);
    this.camera.near = this.reach / REACH / 20;
    this.camera.far = 100 * far;
    if (quick) return;
    this.layers.forEach((layer, number) => {
      const { solid, flaps } = this.meshes[number], index = solid.geometry.index;
      const made = triangulate(layer, this.data, range, index.array, number ? null : this.layers[1]);
      index.needsUpdate = true;
      solid.geometry.setDrawRange(0, made.count);
      flaps.geometry.dispose();
      flaps.geometry = new THREE.BufferGeometry();
      flaps.geometry.setAttribute("position", new THREE.BufferAttribute(made.flaps, 3));
    });
  }

  show(surface) {
    this.surface = surface;
    this.set("surface", SURFACES[surface]);
    for (const { solid, flaps, dots } of this.meshes) {
      dots.visible = surface === "points";
      solid.visible = surface !== "points";
      flaps.visible = surface === "mesh";
    }
  }

  draw() {
    const { canvas, renderer, view } = this, width = canvas.clientWidth, height = canvas.clientHeight;
    this.paint(width, height, Math.min(devicePixelRatio, 2));
    view.aim(this.camera, this.reach, width / height);
    renderer.render(this.scene, this.camera);
  }

  paint(width, height, ratio) {
    const { renderer, view } = this, size = new THREE.Vector2();
    if (!renderer.getSize(size).equals(new THREE.Vector2(width, height)) || renderer.getPixelRatio() !== ratio) {
      renderer.setPixelRatio(ratio);
      renderer.setSize(width, height, false);
    }
    renderer.getDrawingBufferSize(this.uniforms.screen.value);
    // Lines of the wireframe are so far apart on the screen, whatever the field of view.
    const perPixel = 2 * Math.tan(radians(view.now.fov) / 2) * view.focal / height;
    this.set("mesh_size", Math.max(this.values.pitch, 2 ** Math.round(Math.log2(LINE_APART * perPixel))));
    // Between dots and lines nothing is to be seen but the ground.
    this.behind.visible = this.surface === "mesh";
  }

  // Metres under a point of the window, Infinity in the sky, null where there is nothing.
  pick(x, y) {
    const { canvas, renderer, camera, scene, meshes } = this, width = canvas.clientWidth, height = canvas.clientHeight;
    const parts = meshes.flatMap(Object.values), bytes = new Uint8Array(4), seen = parts.map(part => part.visible);
    camera.setViewOffset(width, height, Math.floor(x), Math.floor(y), 1, 1);
    for (const part of parts) part.material = part.userData.pick;
    for (const { solid, flaps, dots } of meshes) {
      solid.visible = flaps.visible = true;
      dots.visible = false;
    }
    this.behind.visible = false;
    renderer.setRenderTarget(this.target);
    renderer.setClearColor(0, 0);
    renderer.clear();
    renderer.render(scene, camera);
    renderer.readRenderTargetPixels(this.target, 0, 0, 1, 1, bytes);
    renderer.setRenderTarget(null);
    renderer.setClearColor(0x090b0e, 1);
    camera.clearViewOffset();
    parts.forEach((part, number) => Object.assign(part, { material: part.userData.material, visible: seen[number] }));
    const [high, middle, low, there] = bytes, { x: nearest, y: farthest } = this.uniforms.bounds.value;
    if (!there) return null;
    if (high === 255) return Infinity;
    const code = high / 255 + middle / 65025 + low / 16581375;
    return nearest * (farthest / nearest) ** code;
  }

  // What is seen, as a PNG with a longer side of 3840 pixels or what the graphics card can do.
  still() {
    const { canvas, renderer } = this, width = canvas.clientWidth, height = canvas.clientHeight;
    const side = Math.min(STILL_SIDE, renderer.capabilities.maxTextureSize);
    this.paint(width, height, side / Math.max(width, height));
    renderer.render(this.scene, this.camera);
    const made = new Promise(resolve => canvas.toBlob(resolve, "image/png"));
    this.draw();
    return made;
  }
}
