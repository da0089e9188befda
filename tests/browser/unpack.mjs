// Unpacks the npm package @sparticuz/chromium: node unpack.mjs FOLDER_OF_THE_PACKAGE FOLDER.
// The browser goes to FOLDER/chromium, libraries that a system may lack to FOLDER/lib, fonts to FOLDER/fonts.
import { execFileSync } from "node:child_process";
import { chmodSync, createReadStream, createWriteStream, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const [from, to] = process.argv.slice(2).map((path) => resolve(path));
const unpack = (name, target) =>
  pipeline(createReadStream(join(from, `${name}.br`)), createBrotliDecompress(), createWriteStream(target));

await unpack("chromium", join(to, "chromium"));
chmodSync(join(to, "chromium"), 0o755);
for (const name of ["al2023.tar", "fonts.tar"]) {
  const tar = join(to, name);
  await unpack(name, tar);
  execFileSync("tar", ["--no-same-owner", "-xf", tar, "-C", to]);
  rmSync(tar);
}
// The pictures of the docs have the same letters wherever they are taken; the system's fonts are for other scripts.
writeFileSync(
  join(to, "fonts.conf"),
  `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>${join(to, "fonts")}</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>${join(to, "font-cache")}</cachedir>
  <alias binding="same"><family>system-ui</family><prefer><family>Open Sans</family></prefer></alias>
  <alias binding="same"><family>sans-serif</family><prefer><family>Open Sans</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family><family>Liberation Mono</family></prefer></alias>
</fontconfig>
`,
);
