// Node's zlib, all at once.
const fs = require("fs");
const content = require("zlib").gunzipSync(fs.readFileSync(process.argv[2]));
for (let at = 0; at < content.length; ) at += fs.writeSync(1, content, at);
