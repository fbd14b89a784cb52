// Node's zlib, as a stream.
const { createReadStream } = require("fs");
require("stream").pipeline(createReadStream(process.argv[2]), require("zlib").createGunzip(), process.stdout, (error) => {
  if (error) throw error;
});
