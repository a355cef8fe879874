"""Run by Blender's own Python: open a file and print what Blender found in it as one line of JSON."""

import json
import sys

import bpy
import numpy as np

if not hasattr(np, "bool"):
    np.bool = bool  # Debian's importer asks for a name that the numpy beside it has dropped


def read_mesh(path):
    """Every object's corners in Blender's axes (z up), its triangles, and its texture's colour at the extreme vertices."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=path)
    found = {}
    for thing in bpy.context.scene.objects:
        if thing.type != "MESH":
            continue
        mesh = thing.data
        points = np.empty(3 * len(mesh.vertices))
        mesh.vertices.foreach_get("co", points)
        points = (np.c_[points.reshape(-1, 3), np.ones(len(mesh.vertices))] @ np.array(thing.matrix_world).T)[:, :3]
        loops = np.empty(len(mesh.loops), int)
        mesh.loops.foreach_get("vertex_index", loops)
        uv = np.empty(2 * len(mesh.loops))
        mesh.uv_layers.active.data.foreach_get("uv", uv)
        image = next(node.image for node in mesh.materials[0].node_tree.nodes if node.type == "TEX_IMAGE")
        picture = np.array(image.pixels[:]).reshape(image.size[1], image.size[0], 4)
        at = np.clip((uv.reshape(-1, 2) % 1 * image.size).astype(int), 0, np.array(image.size) - 1)
        colours = picture[at[:, 1], at[:, 0], :3]
        extremes = {
            "left": points[loops, 0].argmin(),
            "right": points[loops, 0].argmax(),
            "top": points[loops, 2].argmax(),
            "bottom": points[loops, 2].argmin(),
        }
        found[thing.name] = {
            "low": points.min(axis=0).tolist(),
            "high": points.max(axis=0).tolist(),
            "triangles": len(mesh.polygons),
            "normals": [float(np.mean([polygon.normal[axis] for polygon in mesh.polygons])) for axis in range(3)],
            "texture": list(image.size),
            "colours": {name: colours[index].tolist() for name, index in extremes.items()},
        }
    return found


def read_picture(path, layers, rendered):
    """The layers that the compositor finds, and the pixels (bottom row first) of those that are asked for."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    image = bpy.data.images.load(path)
    scene = bpy.context.scene
    scene.use_nodes = True
    tree = scene.node_tree
    tree.nodes.clear()
    source = tree.nodes.new("CompositorNodeImage")
    source.image = image
    found = {"layers": [output.name for output in source.outputs], "pixels": {}}
    target = tree.nodes.new("CompositorNodeComposite")
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_mode = "RGB"
    scene.render.image_settings.color_depth = "32"
    scene.render.resolution_percentage = 100
    for layer in layers:
        tree.links.new(source.outputs[layer], target.inputs["Image"])
        scene.render.resolution_x, scene.render.resolution_y = found["size"] = [64, 32]
        scene.render.filepath = f"{rendered}-{layer}.exr"
        bpy.ops.render.render(write_still=True)
        written = bpy.data.images.load(scene.render.filepath)
        values = np.array(written.pixels[:]).reshape(written.size[1], written.size[0], 4)
        found["pixels"][layer] = values[..., :3].tolist()
    return found


task, path, *rest = sys.argv[sys.argv.index("--") + 1 :]
result = read_mesh(path) if task == "mesh" else read_picture(path, rest[1:], rest[0])
print("FOUND " + json.dumps(result))
