// Unpacks the npm package @sparticuz/chromium: node unpack.mjs FOLDER_OF_THE_PACKAGE FOLDER.
// The browser goes to FOLDER/chromium, the libraries that it needs and systems may lack to FOLDER/lib, fonts to FOLDER/fonts.
import { execFileSync } from "node:child_process";
import { chmodSync, createReadStream, createWriteStream, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";

const [from, to] = process.argv.slice(2);
const unpacked = (name, target) =>
  pipeline(createReadStream(join(from, name)), createBrotliDecompress(), createWriteStream(target));

await unpacked("chromium.br", join(to, "chromium"));
chmodSync(join(to, "chromium"), 0o755);
for (const name of ["al2023", "fonts", "swiftshader"]) {
  const tar = join(to, `${name}.tar`);
  await unpacked(`${name}.tar.br`, tar);
  const folder = name === "swiftshader" ? to : join(to, name);
  mkdirSync(folder, { recursive: true });
  execFileSync("tar", ["-xf", tar, "-C", folder]);
  rmSync(tar);
}
