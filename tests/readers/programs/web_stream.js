// DecompressionStream, the gzip of browsers, as Node has it. Its own rule is that nothing may follow the first member.
const { createReadStream } = require("fs");
const { Readable } = require("stream");
(async () => {
  const content = Readable.toWeb(createReadStream(process.argv[2])).pipeThrough(new DecompressionStream("gzip"));
  for await (const chunk of content) if (!process.stdout.write(chunk)) await new Promise((resolve) => process.stdout.once("drain", resolve));
})().catch((error) => { console.error(error); process.exitCode = 1; });
