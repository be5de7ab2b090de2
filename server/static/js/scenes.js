// The drawings: each a function of a canvas context, its size and a source of random numbers.

export const SCENES = { "golf ball": golfBall, church, parachute, ship, airplane };

// --- Shared strokes --------------------------------------------------------------------------

function backdrop(context, width, height, stops) {
  const gradient = context.createLinearGradient(0, 0, 0, height);
  stops.forEach(([place, colour]) => gradient.addColorStop(place, colour));
  context.fillStyle = gradient;
  context.fillRect(0, 0, width, height);
}

function polygon(context, colour, ...points) {
  context.fillStyle = colour;
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
}

function disc(context, x, y, radiusX, radiusY, colour) {
  context.fillStyle = colour;
  context.beginPath();
  context.ellipse(x, y, radiusX, radiusY, 0, 0, 2 * Math.PI);
  context.fill();
}

function clouds(context, width, height, random, count) {
  for (let cloud = 0; cloud < count; cloud += 1) {
    const [x, y, size] = [random() * width, random() * height, 14 + 22 * random()];
    for (let puff = 0; puff < 14; puff += 1) {
      disc(context, x + (random() - 0.5) * 6 * size, y + (random() - 0.5) * size, size, size * 0.6, "rgb(255 255 255 / 0.10)");
    }
  }
}

/** Blades or leaves: many short strokes in shades of one hue. */
function strokes(context, random, { count, x, y, width, height, length, hue }) {
  for (let stroke = 0; stroke < count; stroke += 1) {
    const [left, top] = [x + random() * width, y + random() * height];
    context.strokeStyle = `hsl(${hue + 16 * random()} ${35 + 25 * random()}% ${22 + 26 * random()}%)`;
    context.lineWidth = 1 + 1.5 * random();
    context.beginPath();
    context.moveTo(left, top);
    context.lineTo(left + (random() - 0.5) * length, top - length * (0.4 + random()));
    context.stroke();
  }
}

/** Sensor noise, without which flat paint looks like nothing a camera has seen. */
function grain(context, width, height, random, amount) {
  const image = context.getImageData(0, 0, width, height);
  for (let place = 0; place < image.data.length; place += 4) {
    const shift = (random() - 0.5) * amount;
    for (let channel = 0; channel < 3; channel += 1) image.data[place + channel] += shift;
  }
  context.putImageData(image, 0, 0);
}

// --- Scenes ----------------------------------------------------------------------------------

function golfBall(context, width, height, random) {
  backdrop(context, width, height, [[0, "#5f8f3a"], [0.35, "#4b7f2c"], [1, "#2f5c1b"]]);
  strokes(context, random, { count: 5200, x: 0, y: 20, width, height, length: 13, hue: 88 });
  const [x, y, radius] = [width * 0.53, height * 0.54, height * 0.31];
  disc(context, x + 8, y + radius * 0.93, radius * 0.98, radius * 0.2, "rgb(10 25 5 / 0.6)");
  const shade = context.createRadialGradient(x - radius * 0.35, y - radius * 0.45, radius * 0.1, x, y, radius);
  [[0, "#ffffff"], [0.55, "#eef0ee"], [0.85, "#c3c8c4"], [1, "#8f968f"]].forEach((stop) => shade.addColorStop(...stop));
  disc(context, x, y, radius, radius, shade);
  dimples(context, x, y, radius);
  strokes(context, random, { count: 500, x: x - radius, y: y + radius * 0.95, width: 2 * radius, height: 30, length: 24, hue: 88 });
  grain(context, width, height, random, 14);
}

/** Rings of dimples, foreshortened towards the rim. */
function dimples(context, x, y, radius) {
  for (let ring = 0; ring < 8; ring += 1) {
    const angle = (ring / 8) * (Math.PI / 2);
    const count = Math.max(1, Math.round(ring * 5.6));
    for (let dimple = 0; dimple < count; dimple += 1) {
      const turn = ((dimple + ring * 0.37) / count) * 2 * Math.PI;
      const away = Math.sin(angle) * radius * 0.97;
      const [left, top, size] = [x + Math.cos(turn) * away, y + Math.sin(turn) * away, radius * 0.062];
      const flat = Math.max(0.3, Math.cos(angle));
      context.save();
      context.translate(left, top);
      context.rotate(turn);
      disc(context, 0, 0, size * flat, size, "rgb(90 100 95 / 0.34)");
      disc(context, 1, 1.5, size * flat * 0.75, size * 0.75, "rgb(255 255 255 / 0.42)");
      context.restore();
    }
  }
}

function church(context, width, height, random) {
  backdrop(context, width, height, [[0, "#4f8fd0"], [0.7, "#bcd9ee"], [1, "#dfe9ec"]]);
  clouds(context, width, height * 0.45, random, 7);
  strokes(context, random, { count: 1600, x: 0, y: height * 0.6, width, height: height * 0.25, length: 26, hue: 100 });
  context.fillStyle = "#59753c";
  context.fillRect(0, height * 0.84, width, height * 0.16);
  const base = height * 0.88;
  polygon(context, "#d9cfbd", [210, 190], [420, 190], [420, base], [210, base]);
  polygon(context, "#6f5548", [196, 194], [250, 128], [400, 128], [434, 194]);
  polygon(context, "#e7decd", [120, 130], [212, 130], [212, base], [120, base]);
  polygon(context, "#c5b9a3", [190, 130], [212, 130], [212, base], [190, base]);
  polygon(context, "#4f5a63", [110, 134], [166, 16], [222, 134]);
  polygon(context, "#3c464e", [166, 16], [222, 134], [178, 134]);
  context.fillStyle = "#3a332b";
  context.fillRect(164, 0, 4, 22);
  context.fillRect(158, 6, 16, 4);
  [[152, 160, 28, 44], [146, 262, 40, 54], [240, 222, 26, 58], [296, 222, 26, 58], [352, 222, 26, 58]].forEach(([x, y, w, h]) =>
    archedWindow(context, x, y, w, h),
  );
  strokes(context, random, { count: 1500, x: 0, y: height * 0.9, width, height: height * 0.12, length: 12, hue: 90 });
  grain(context, width, height, random, 16);
}

function archedWindow(context, x, y, width, height) {
  context.fillStyle = "#2d3540";
  context.beginPath();
  context.arc(x + width / 2, y + width / 2, width / 2, Math.PI, 0);
  context.lineTo(x + width, y + height);
  context.lineTo(x, y + height);
  context.fill();
}

function parachute(context, width, height, random) {
  backdrop(context, width, height, [[0, "#1f62b8"], [1, "#8fbfe8"]]);
  clouds(context, width, height, random, 4);
  const [x, y, radius, jumper] = [width * 0.48, height * 0.4, height * 0.3, height * 0.86];
  const colours = ["#d6202a", "#f4f2ea", "#1d4fa3", "#f4c51c", "#d6202a", "#f4f2ea", "#1d4fa3", "#f4c51c"];
  colours.forEach((colour, index) => gore(context, x, y, radius, index / 8, (index + 1) / 8, colour));
  context.strokeStyle = "rgb(240 240 235 / 0.85)";
  context.lineWidth = 1.2;
  for (let line = 0; line <= 8; line += 1) {
    context.beginPath();
    context.moveTo(x - radius * 1.25 + (line / 8) * radius * 2.5, y + 6);
    context.lineTo(x, jumper - 24);
    context.stroke();
  }
  disc(context, x, jumper - 22, 5, 6, "#2a2320");
  polygon(context, "#27303c", [x - 8, jumper - 16], [x + 8, jumper - 16], [x + 5, jumper + 8], [x - 5, jumper + 8]);
  polygon(context, "#1c2129", [x - 5, jumper + 8], [x + 5, jumper + 8], [x + 8, jumper + 28], [x - 8, jumper + 28]);
  grain(context, width, height, random, 14);
}

/** One gore of the canopy, between two meridians given as shares of its width. */
function gore(context, x, y, radius, from, to, colour) {
  const half = radius * 1.25;
  const edge = (share) => x - half + share * 2 * half;
  context.fillStyle = colour;
  context.beginPath();
  context.moveTo(x, y - radius);
  context.quadraticCurveTo(edge(from) + (x - edge(from)) * 0.12, y - radius * 0.92, edge(from), y + 8);
  context.quadraticCurveTo((edge(from) + edge(to)) / 2, y - 10, edge(to), y + 8);
  context.quadraticCurveTo(edge(to) + (x - edge(to)) * 0.12, y - radius * 0.92, x, y - radius);
  context.fill();
}

function ship(context, width, height, random) {
  backdrop(context, width, height, [[0, "#9fc4de"], [0.55, "#dbe7ea"], [0.56, "#2f6484"], [1, "#17405c"]]);
  clouds(context, width, height * 0.4, random, 6);
  strokes(context, random, { count: 1400, x: 0, y: height * 0.6, width, height: height * 0.4, length: 9, hue: 198 });
  polygon(context, "#20262e", [50, 196], [440, 186], [404, 262], [92, 262]);
  polygon(context, "#a5322a", [84, 246], [414, 242], [404, 264], [92, 264]);
  polygon(context, "#eef0ee", [120, 150], [330, 146], [336, 192], [112, 196]);
  polygon(context, "#dfe3e2", [180, 116], [292, 114], [296, 148], [174, 151]);
  polygon(context, "#c63a2e", [206, 66], [250, 64], [254, 116], [202, 117]);
  polygon(context, "#1f2329", [205, 66], [250, 64], [251, 78], [205, 80]);
  for (let port = 0; port < 9; port += 1) disc(context, 136 + port * 22, 172, 5, 5, "#33475a");
  for (let foam = 0; foam < 160; foam += 1) disc(context, 70 + random() * 350, 258 + random() * 14, 9 * random(), 3 * random(), "rgb(240 248 250 / 0.5)");
  grain(context, width, height, random, 14);
}

function airplane(context, width, height, random) {
  backdrop(context, width, height, [[0, "#3f82c6"], [1, "#bcdcf2"]]);
  clouds(context, width, height, random, 8);
  polygon(context, "#8e98a3", [214, 168], [300, 160], [206, 66], [176, 70]);
  polygon(context, "#e3e7ea", [60, 196], [92, 164], [392, 148], [438, 166], [424, 188], [104, 214]);
  polygon(context, "#b9c1c9", [70, 202], [426, 184], [404, 192], [104, 214]);
  polygon(context, "#1f4e8c", [56, 196], [96, 168], [78, 104], [46, 106]);
  polygon(context, "#a2acb6", [82, 196], [120, 190], [70, 236], [48, 236]);
  polygon(context, "#aab3bc", [206, 192], [306, 182], [196, 296], [164, 294]);
  disc(context, 214, 238, 22, 10, "#59636e");
  for (let pane = 0; pane < 15; pane += 1) disc(context, 136 + pane * 17, 184 - pane * 0.9, 3, 4, "#41556b");
  polygon(context, "#2b3b4d", [404, 158], [424, 162], [420, 170], [400, 167]);
  grain(context, width, height, random, 14);
}
