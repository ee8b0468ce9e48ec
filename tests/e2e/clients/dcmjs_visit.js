'use strict';
// dcmjs-dimse as a client that is told what to do line by line: a request is one line of fields with tabs between them, its answer lines of the same
// form, the last of them "done" or "failed" with a reason. Arguments: port, our AE title, the peer's, the folder of node_modules.

const path = require('path');
const readline = require('readline');

const [port, calling, called, modules] = process.argv.slice(2);
const dimse = require(path.join(modules, 'dcmjs-dimse'));
const { Client, Dataset, constants, log, requests, responses } = dimse;
log.setLevel('silent');

// The information models of C-FIND, C-MOVE and C-GET in a root end in 1, 2 and 3.
const MODEL = { PATIENT: '1.2.840.10008.5.1.4.1.2.1.', STUDY: '1.2.840.10008.5.1.4.1.2.2.' };

const say = (...fields) => process.stdout.write(`${fields.join('\t')}\n`);

// Runs requests over one association; rejects when there is none.
function run(client, list) {
  return new Promise((resolve, reject) => {
    for (const request of list) client.addRequest(request);
    client.on('associationRejected', (rejection) => reject(new Error(`rejected ${JSON.stringify(rejection)}`)));
    client.on('networkError', (error) => reject(error));
    client.on('closed', resolve);
    client.send('127.0.0.1', Number(port), calling, called, {});
  });
}

const hex = (status) => status.toString(16).padStart(4, '0');

// The library builds requests in Study Root only; Patient Root is the same identifier in another information model.
function query(request, service, root, level, keys) {
  request.setAffectedSopClassUid(MODEL[root] + service);
  const elements = { QueryRetrieveLevel: level };
  for (const key of keys) {
    const at = key.indexOf('=');
    const values = key.slice(at + 1).split('\\');
    elements[key.slice(0, at)] = values.length > 1 ? values : values[0];
  }
  request.setDataset(new Dataset(elements));
  return request;
}

const services = {
  // The storage classes that it knows.
  async classes() {
    for (const uid of Object.values(constants.StorageClass)) say('class', uid);
  },

  async echo() {
    const request = new requests.CEchoRequest();
    let status;
    request.on('response', (response) => (status = response.getStatus()));
    await run(new Client(), [request]);
    if (status !== constants.Status.Success) throw new Error(`status ${status}`);
  },

  // Answers "stored" or "refused" with the status, or "unsent" with the reason; all over one association.
  async store(...paths) {
    const outcomes = new Map(paths.map((file) => [file, ['unsent', 'no context for it']]));
    const list = paths.map((file) => {
      const request = new requests.CStoreRequest(file);
      request.on('response', (response) => {
        const status = response.getStatus();
        outcomes.set(file, [status === constants.Status.Success ? 'stored' : 'refused', hex(status)]);
      });
      return request;
    });
    await run(new Client(), list).catch((error) => {
      for (const [file, [outcome]] of outcomes) if (outcome === 'unsent') outcomes.set(file, ['unsent', error.message]);
    });
    for (const [file, [outcome, why]] of outcomes) say(outcome, file, why.replace(/[\t\n]/g, ' '));
  },

  async find(root, level, ...keys) {
    const request = query(new requests.CFindRequest(), 1, root, level, keys);
    let status;
    request.on('response', (response) => {
      status = response.getStatus();
      if (status !== constants.Status.Pending || !response.hasDataset()) return;
      const elements = response.getDataset().getElements();
      say('answer', ...Object.entries(elements).map(([name, value]) => `${name}=${text(value)}`));
    });
    await run(new Client(), [request]);
    if (status !== constants.Status.Success) throw new Error(`status ${hex(status)}`);
  },

  async move(root, level, destination, ...keys) {
    const request = query(new requests.CMoveRequest(), 2, root, level, keys);
    request.getCommandDataset().setElement('MoveDestination', destination);
    let status;
    request.on('response', (response) => (status = response.getStatus()));
    await run(new Client(), [request]);
    say('status', hex(status));
  },

  // Writes what comes into the folder and answers "got" with each path. The library offers to be SCP of its own list of storage classes, in the two
  // little endian syntaxes; for a context that is added to them it cannot negotiate the role.
  async get(root, level, folder, ...keys) {
    const request = query(new requests.CGetRequest(), 3, root, level, keys);
    const client = new Client();
    let status;
    request.on('response', (response) => (status = response.getStatus()));
    client.on('cStoreRequest', (store, callback) => {
      const file = path.join(folder, store.getAffectedSopInstanceUid());
      const response = responses.CStoreResponse.fromRequest(store);
      try {
        store.getDataset().toFile(file);
        say('got', file);
        response.setStatus(constants.Status.Success);
      } catch (error) {
        response.setStatus(constants.Status.ProcessingFailure);
      }
      callback(response);
    });
    await run(client, [request]);
    say('status', hex(status));
  },

  // Asks for Storage Commitment of "class=instance" and waits for the report on the same association, which it keeps open for that. Answers "asked" with
  // the status, then "event" with its type, whether the transaction is the one that was asked for, and the instances that are committed to.
  async commit(transaction, ...references) {
    const [sopClass, sopInstance] = ['1.2.840.10008.1.20.1', '1.2.840.10008.1.20.1.1'];
    const request = new requests.NActionRequest(sopClass, sopInstance, 1);
    const pairs = references.map((reference) => reference.split('='));
    request.setDataset(
      new Dataset({
        TransactionUID: transaction,
        ReferencedSOPSequence: pairs.map(([uid, instance]) => ({ ReferencedSOPClassUID: uid, ReferencedSOPInstanceUID: instance })),
      })
    );
    request.on('response', (response) => say('asked', hex(response.getStatus())));
    const client = new Client();
    await new Promise((resolve, reject) => {
      client.on('nEventReportRequest', (report, callback) => {
        const elements = report.getDataset().getElements();
        const committed = [].concat(elements.ReferencedSOPSequence || []).map((item) => item.ReferencedSOPInstanceUID);
        say('event', report.getEventTypeId(), elements.TransactionUID === transaction, ...committed);
        callback(responses.NEventReportResponse.fromRequest(report));
        resolve();
      });
      client.on('closed', () => reject(new Error('closed without a report')));
      client.on('networkError', reject);
      client.addRequest(request);
      client.send('127.0.0.1', Number(port), calling, called, { associationLingerTimeout: 30000 });
    });
  },
};

// An element's value as it would stand in the data set.
function text(value) {
  if (Array.isArray(value)) return value.map(text).join('\\');
  if (value && typeof value === 'object') return 'Alphabetic' in value ? value.Alphabetic : JSON.stringify(value);
  return value === undefined || value === null ? '' : String(value);
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...fields] = line.split('\t');
    try {
      await services[name](...fields);
      say('done');
    } catch (error) {
      say('failed', String(error && error.message).replace(/[\t\n]/g, ' '));
    }
  }
})();
