"""A sensor made of packages that are not ours: frames by pycose and cbor2, sent by paho-mqtt (MQTT 5) and by plain HTTP.

What it needs to know it reads in docs/sensors.md and spec/frame.md, as a device maker would.
"""

import json
import os
import queue
import struct
import time
import urllib.error
import urllib.request

import cbor2
import paho.mqtt.client as mqtt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hashlib import sha256
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from pycose.headers import KID, Algorithm, ContentType
from pycose.algorithms import EdDSA
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
from pycose.messages import Sign1Message

URL = os.environ["VITALTRACE_URL"]
ORG = os.environ.get("VITALTRACE_ORG", "mercy-hospital")


def step(what):
    print(what, flush=True)


def post(path, body, content_type="application/fhir+json", token=True):
    """An answer's status and JSON."""
    headers = {"Content-Type": content_type}
    if token:
        headers["Authorization"] = "Bearer " + os.environ["VITALTRACE_TOKEN"]
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(URL + path, data=data, headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


class Sensor:
    """A device's key and its sequence."""

    def __init__(self, device):
        self.name = f"urn:dev:fhir:{device}"
        self.device = device
        seed = os.urandom(32)
        self.public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key = OKPKey(crv=Ed25519, d=seed, x=self.public)
        self.counter, self.previous = 0, bytes(32)

    def frame(self, records):
        """The next frame, of now, with these SenML records."""
        self.counter += 1
        now_ms = int(time.time() * 1000)
        head = {-2: self.name + ":", -3: cbor2.CBORTag(4, [-3, now_ms]), 0: "counter", 2: self.counter}
        pack = [head, {0: "previous", 8: self.previous}, *records]
        message = Sign1Message(
            phdr={Algorithm: EdDSA, ContentType: 112, KID: self.name.encode()}, payload=cbor2.dumps(pack)
        )
        message.key = self.key
        frame = message.encode()
        self.previous = sha256(frame).digest()
        return frame


def temperature(value_hundredths):
    return [{0: "temp-body", 1: "Cel", 2: cbor2.CBORTag(4, [-2, value_hundredths])}]


def ecg(first):
    """A second of an ECG at 250 Hz."""
    samples = [((first + n) % 250) * 4 - 500 for n in range(250)]
    return [
        {0: "ecg-ii/rate", 1: "Hz", 2: 250},
        {0: "ecg-ii/scale", 1: "mV", 2: cbor2.CBORTag(4, [-3, 5])},
        {0: "ecg-ii", 8: struct.pack("<250h", *samples)},
    ]


def by_http(sensor):
    step("a frame by HTTP")
    frame = sensor.frame(temperature(3680))
    status, answer = post("/frames", frame, "application/cose", token=False)
    assert status == 201, (status, answer)
    assert answer["observation"] == "Observation/" + sha256(frame).hexdigest(), answer
    step("the same again, which is told from a new one")
    status, answer = post("/frames", frame, "application/cose", token=False)
    assert (status, answer["issue"][0]["code"]) == (409, "duplicate"), (status, answer)
    step("five in one request")
    frames = [sensor.frame(ecg(250 * n)) for n in range(5)]
    status, answer = post("/frames", b"".join(frames), "application/cbor-seq", token=False)
    assert status == 200, (status, answer)
    assert [one["status"] for one in answer["answers"]] == [201] * 5, answer


def by_mqtt(sensor):
    place = os.environ.get("VITALTRACE_MQTT")
    if not place:
        print("SKIPPED: sensor: VITALTRACE_MQTT names no broker")
        return
    host, port = place.rsplit(":", 1)
    folder = f"vitaltrace/{ORG}/device/{sensor.device}/"
    answers, ready = queue.Queue(), queue.Queue()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"sensor-{sensor.device}", protocol=mqtt.MQTTv5)
    client.username_pw_set(os.environ["VITALTRACE_MQTT_USER"], os.environ["VITALTRACE_MQTT_PASSWORD"])
    if os.environ.get("VITALTRACE_MQTT_CA"):
        client.tls_set(ca_certs=os.environ["VITALTRACE_MQTT_CA"])
    client.on_message = lambda _, __, message: answers.put(message)
    client.on_subscribe = lambda *_: ready.put(True)
    step(f"connecting with the broker at {place}")
    client.connect(host, int(port))
    client.loop_start()
    client.subscribe(folder + "answer", qos=1)
    ready.get(timeout=60)

    def send(frame):
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = folder + "answer"
        properties.CorrelationData = sha256(frame).digest()
        client.publish(folder + "frame", frame, qos=1, properties=properties).wait_for_publish(60)

    step("twenty frames by MQTT, sent before any is answered")
    frames = [sensor.frame(ecg(250 * n)) for n in range(20)]
    for frame in frames:
        send(frame)
    waiting = {sha256(frame).digest() for frame in frames}
    while waiting:
        message = answers.get(timeout=60)
        answer = json.loads(message.payload)
        assert answer["status"] == 201, answer
        waiting.remove(message.properties.CorrelationData)
        assert bytes.fromhex(answer["frame"]) == message.properties.CorrelationData
    step("one that another key signed")
    other = Sensor(sensor.device)
    other.counter, other.previous = sensor.counter, sensor.previous
    send(other.frame(temperature(3690)))
    answer = json.loads(answers.get(timeout=60).payload)
    assert answer["status"] == 422 and answer["outcome"]["resourceType"] == "OperationOutcome", answer
    client.loop_stop()
    client.disconnect()


def main():
    patient, device = os.environ.get("VITALTRACE_PATIENT"), os.environ.get("VITALTRACE_DEVICE")
    if not patient:
        step("a patient")
        status, made = post("/fhir/Patient", {"resourceType": "Patient", "name": [{"family": "Nobody"}]})
        assert status == 201, made
        patient = made["id"]
    if not device:
        step("a device")
        status, made = post("/fhir/Device", {"resourceType": "Device", "status": "active"})
        assert status == 201, made
        device = made["id"]
    sensor = Sensor(device)
    step("its binding to the patient")
    status, bound = post(f"/fhir/Device/{device}/$bind", {"patient": patient, "key": sensor.public.hex()}, "application/json")
    assert status == 201, bound
    by_http(sensor)
    by_mqtt(sensor)
    step(f"{sensor.counter} frames were taken")


main()
