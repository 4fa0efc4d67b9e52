// Volumes in three planes. What is packed in the page is unpacked when a viewer comes near the screen, never before.
{
  const AXES = { axial: [0, 1, 2], coronal: [0, 2, 1], sagittal: [1, 2, 0] }; // across, up, through
  const unpack = async (text) => {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  };
  const colours = (stops) => { // "#rrggbb, ..." to 256 colours
    const ends = stops.split(", ").map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
    return Array.from({ length: 256 }, (_, level) => {
      const at = (level / 255) * (ends.length - 1), k = Math.min(Math.floor(at), ends.length - 2);
      return ends[k].map((from, channel) => from + (at - k) * (ends[k + 1][channel] - from));
    });
  };
  const start = (figure) => {
    const numbers = (name) => figure.dataset[name].split(" ").map(Number);
    const shape = numbers("shape"), spacing = numbers("spacing"), window_ = numbers("window"), at = numbers("start");
    const origin = numbers("origin"), whole = numbers("whole"), factor = Number(figure.dataset.factor);
    const inFile = (axis) => origin[axis] + at[axis] * factor + 1; // counted from 1
    const levels = Number(figure.dataset.levels), step = (window_[1] - window_[0]) / (levels - 1);
    const unit = figure.dataset.unit, one = (selector) => figure.querySelector(selector);
    const tops = { error: Number(figure.dataset.errorTop), uncertainty: Number(figure.dataset.uncertaintyTop) };
    const maps = { error: colours(figure.dataset.errorColours), uncertainty: colours(figure.dataset.uncertaintyColours) };
    const texts = new Map([...document.querySelectorAll("script[data-volume]")]
      .filter((script) => script.dataset.volume === figure.id).map((script) => [script.dataset.key, script]));
    const unpacked = new Map();
    const volume = (key) => {
      if (!texts.has(key)) return Promise.resolve(null);
      if (!unpacked.has(key)) unpacked.set(key, (async () => {
        const data = await unpack(texts.get(key).textContent);
        if (key === "truth" || key.startsWith("±")) return data;
        const truth = await volume("truth");
        return data.map((difference, k) => difference + truth[k]); // modulo 256, as it was packed
      })());
      return unpacked.get(key);
    };
    const canvases = [...figure.querySelectorAll("canvas")], sliders = [...figure.querySelectorAll("input[data-plane]")];
    const name = (key) => [...figure.querySelectorAll("option")].find((option) => option.value === key).textContent;
    const small = document.createElement("canvas"), ink = small.getContext("2d");
    const offset = (p) => (p[0] * shape[1] + p[1]) * shape[2] + p[2];

    const draw = (canvas, data, truth, shade, overlay) => {
      const [across, up, through] = AXES[canvas.dataset.plane];
      const width = shape[across], height = shape[up];
      const strides = [shape[1] * shape[2], shape[2], 1];
      const picture = new ImageData(width, height), pixels = picture.data;
      const opacity = overlay === "none" ? 0 : Number(one(".opacity").value) / 100;
      for (let row = 0, k = 0; row < height; row++) {
        for (let column = 0; column < width; column++, k += 4) {
          const voxel = (width - 1 - column) * strides[across] + (height - 1 - row) * strides[up] + at[through] * strides[through];
          const grey = (data[voxel] * 255) / (levels - 1);
          let colour = null;
          if (overlay === "error") colour = Math.abs(data[voxel] - truth[voxel]) * step / tops.error;
          else if (overlay === "uncertainty" && shade) colour = shade[voxel] / 255;
          const over = colour === null ? null : maps[overlay][Math.min(255, Math.round(255 * colour))];
          for (let c = 0; c < 3; c++) pixels[k + c] = over ? (1 - opacity) * grey + opacity * over[c] : grey;
          pixels[k + 3] = 255;
        }
      }
      small.width = width;
      small.height = height;
      ink.putImageData(picture, 0, 0);
      const scale = window.devicePixelRatio || 1, wide = Math.max(1, Math.round(canvas.clientWidth * scale));
      const high = Math.max(1, Math.round((wide * height * spacing[up]) / (width * spacing[across])));
      canvas.width = wide;
      canvas.height = high;
      const screen = canvas.getContext("2d");
      screen.imageSmoothingEnabled = false;
      screen.drawImage(small, 0, 0, wide, high);
      screen.font = `${13 * scale}px sans-serif`;
      screen.lineWidth = 3 * scale; // a dark rim: a head is as bright as the letter
      screen.fillStyle = "#fff";
      screen.textAlign = "center";
      screen.textBaseline = "middle";
      const edge = 10 * scale, [left, right] = canvas.dataset.plane === "sagittal" ? "AP" : "RL";
      const [top, bottom] = canvas.dataset.plane === "axial" ? "AP" : "HF";
      const below = canvas.dataset.plane === "axial" ? 27 * scale : edge; // the method's name stands above it
      for (const [letter, x, y] of [[left, edge, high / 2], [right, wide - edge, high / 2], [top, wide / 2, below], [bottom, wide / 2, high - edge]]) {
        screen.strokeText(letter, x, y);
        screen.fillText(letter, x, y);
      }
      if (!one(".cross").checked) return;
      const x = Math.round(((width - at[across] - 0.5) / width) * wide), y = Math.round(((height - at[up] - 0.5) / height) * high);
      screen.fillStyle = "rgb(86 180 233 / 0.85)";
      const gap = 7 * scale; // what the crosshair points at stays to be seen
      for (const [from, to] of [[0, x - gap], [x + gap, wide]]) screen.fillRect(from, y, Math.max(0, to - from), scale);
      for (const [from, to] of [[0, y - gap], [y + gap, high]]) screen.fillRect(x, from, scale, Math.max(0, to - from));
    };

    let turn = 0;
    const show = async () => {
      const mine = ++turn;
      const keys = { above: one(".methods input:checked").value, below: one("select").value };
      const overlay = one("input[name$=overlay]:checked").value;
      const truth = await volume("truth"), data = {}, shade = {};
      for (const row of ["above", "below"]) {
        data[row] = await volume(keys[row]);
        shade[row] = overlay === "uncertainty" ? await volume(`±${keys[row]}`) : null;
      }
      if (mine !== turn) return; // something newer was asked for meanwhile
      const said = (row) => {
        if (overlay === "none" || keys[row] === "truth") return "";
        return overlay === "error" || shade[row] ? `, with its ${overlay}` : ", which has no map of uncertainty";
      };
      for (const canvas of canvases) {
        const row = canvas.dataset.row, through = AXES[canvas.dataset.plane][2];
        draw(canvas, data[row], truth, shade[row], keys[row] === "truth" ? "none" : overlay); // the truth has no error
        canvas.setAttribute("aria-label", `${name(keys[row])}, ${canvas.dataset.plane} slice ${inFile(through)} of ${whole[through]}${said(row)}`);
      }
      for (const slider of sliders) {
        const through = AXES[slider.dataset.plane][2];
        slider.max = shape[through];
        slider.value = at[through] + 1;
        const words = `${inFile(through)} of ${whole[through]}`;
        slider.parentElement.querySelector("output").textContent = words;
        slider.setAttribute("aria-valuetext", words);
      }
      figure.querySelectorAll(".which").forEach((tag, k) => {
        const row = k ? "below" : "above";
        tag.textContent = name(keys[row]) + (overlay === "uncertainty" && !shade[row] ? said(row) : "");
      });
      const value = (from) => window_[0] + from[offset(at)] * step, exact = (x) => String(Number(x.toPrecision(3)));
      const cut = (from) => from[offset(at)] === 0 || from[offset(at)] === levels - 1; // perhaps beyond the window
      const shown = (from) => (cut(from) ? (from[offset(at)] ? "≥ " : "≤ ") : "") + exact(value(from)).replace("-", "−");
      const parts = [`Truth ${shown(truth)}`];
      for (const key of new Set([keys.above, keys.below])) {
        if (key === "truth") continue;
        const from = await volume(key), map = await volume(`±${key}`);
        const error = cut(from) || cut(truth) ? "unknown at the window's end" : exact(value(from) - value(truth)).replace("-", "−");
        parts.push(`${name(key)} ${shown(from)} (error ${error}${map ? `, uncertainty ${exact(map[offset(at)] / 255 * tops.uncertainty)}` : ""})`);
      }
      if (mine !== turn) return;
      one(".readout").textContent = `At voxel ${at.map((_, axis) => inFile(axis)).join(", ")}: ${parts.join(" · ")} ${unit}`;
      one(".legend").hidden = overlay === "none";
      if (overlay !== "none") {
        one(".legend i").style.background = `linear-gradient(to right, ${figure.dataset[`${overlay}Colours`]})`;
        one(".legend .top").textContent = `≥ ${Number(tops[overlay].toPrecision(3))}`;
        one(".legend .what").textContent = `${overlay === "error" ? "absolute error" : "half-width of the interval"}, ${unit}`;
      }
      figure.dataset.ready = String(Number(figure.dataset.ready || 0) + 1);
    };

    const widths = ["axial", "coronal", "sagittal"].map((plane) => shape[AXES[plane][0]] * spacing[AXES[plane][0]]);
    one(".planes").style.gridTemplateColumns = widths.map((mm) => `minmax(0, ${mm}fr)`).join(" ");
    const tallest = Math.max(shape[1] * spacing[1], shape[2] * spacing[2]); // two rows should fit a laptop's window
    one(".planes").style.maxWidth = `max(300px, ${(33 * widths.reduce((sum, mm) => sum + mm)) / tallest}vh)`;
    const move = (canvas, event) => {
      const [across, up] = AXES[canvas.dataset.plane], box = canvas.getBoundingClientRect();
      const part = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      [across, up].forEach((axis, k) => {
        at[axis] = Math.max(0, Math.min(shape[axis] - 1, Math.floor((1 - part[k]) * shape[axis])));
      });
      show();
    };
    for (const canvas of canvases) {
      const slider = sliders.find((other) => other.dataset.plane === canvas.dataset.plane);
      canvas.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        canvas.setPointerCapture(event.pointerId);
        slider.focus({ preventScroll: true }); // the arrow keys scroll this plane from now on
        move(canvas, event);
      });
      canvas.addEventListener("pointermove", (event) => { if (event.buttons) move(canvas, event); });
      canvas.addEventListener("wheel", (event) => {
        if (!figure.matches(":focus-within")) return; // the page scrolls
        event.preventDefault();
        const through = AXES[canvas.dataset.plane][2];
        at[through] = Math.max(0, Math.min(shape[through] - 1, at[through] - Math.sign(event.deltaY)));
        show();
      }, { passive: false });
    }
    for (const slider of sliders) {
      slider.addEventListener("input", () => { at[AXES[slider.dataset.plane][2]] = Number(slider.value) - 1; show(); });
    }
    one(".controls").addEventListener("input", show);
    new ResizeObserver(show).observe(one(".planes")); // the first time at once
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      if (typeof DecompressionStream === "function") start(target);
      else target.querySelector(".readout").textContent = "This browser is too old for the viewer; the pictures below are not.";
    }
  }, { rootMargin: "400px" });
  document.querySelectorAll("figure.volume").forEach((figure) => seen.observe(figure));
}
