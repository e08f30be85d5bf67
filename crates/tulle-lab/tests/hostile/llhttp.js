// llhttp in strict mode, as it is inside Node: reads hexadecimal requests, one a line, and says of
// each whether its first message is complete, refused or open, and what its body is.
'use strict';
const { HTTPParser } = require('_http_common');

const MAX_HEAD_BYTES = 1 << 20;

function judge(bytes) {
  const parser = new HTTPParser();
  parser.initialize(HTTPParser.REQUEST, {}, MAX_HEAD_BYTES, HTTPParser.kLenientNone);
  const body = [];
  let state = 'open';
  parser[HTTPParser.kOnHeaders] = () => {};
  parser[HTTPParser.kOnHeadersComplete] = () => 0;
  parser[HTTPParser.kOnBody] = (data) => {
    if (state === 'open') body.push(Buffer.from(data));
  };
  parser[HTTPParser.kOnMessageComplete] = () => {
    if (state === 'open') state = 'complete';
  };
  const done = parser.execute(bytes);
  if (done instanceof Error && state === 'open') state = 'refused ' + done.code;
  return state + ' ' + Buffer.concat(body).toString('hex');
}

const input = require('fs').readFileSync(0, 'latin1').split('\n').filter(Boolean);
process.stdout.write(input.map((line) => judge(Buffer.from(line, 'hex'))).join('\n') + '\n');
