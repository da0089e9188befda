// How the page is built: into the Python package, as index.html and files of `console/` with a hash in
// their names. Nothing is inlined, as the page's Content-Security-Policy admits its own files alone.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    outDir: "../python/servable/console/assets",
    emptyOutDir: true,
    assetsDir: "console",
    assetsInlineLimit: 0,
    modulePreload: false,
    reportCompressedSize: false,
    target: "es2022",
  },
  // `npm run dev`: a server that is told where to find Servable, for work on the page.
  server: {
    proxy: Object.fromEntries(
      ["/console/api", "/v1", "/admin"].map((path) => [path, process.env["SERVABLE"] ?? "http://localhost:8501"]),
    ),
  },
});
