package train

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// readRecords takes TFRecords apart and checks every CRC.
func readRecords(t *testing.T, data []byte) (records [][]byte) {
	t.Helper()
	unmasked := func(masked uint32) uint32 {
		rotated := masked - 0xa282ead8
		return rotated>>17 | rotated<<15
	}
	crc := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	for r := bytes.NewReader(data); r.Len() > 0; {
		head := make([]byte, 12)
		if _, err := io.ReadFull(r, head); err != nil {
			t.Fatal(err)
		}
		n := binary.LittleEndian.Uint64(head)
		if unmasked(binary.LittleEndian.Uint32(head[8:])) != crc(head[:8]) {
			t.Fatalf("record %d: the CRC of its length is wrong", len(records))
		}
		body := make([]byte, n+4)
		if _, err := io.ReadFull(r, body); err != nil {
			t.Fatal(err)
		}
		if unmasked(binary.LittleEndian.Uint32(body[n:])) != crc(body[:n]) {
			t.Fatalf("record %d: the CRC of its data is wrong", len(records))
		}
		records = append(records, body[:n])
	}
	return records
}

// fields decodes a protocol buffer of varints, fixed numbers and bytes.
func fields(t *testing.T, m []byte) map[uint64][]any {
	t.Helper()
	out := map[uint64][]any{}
	for len(m) > 0 {
		tag, n := binary.Uvarint(m)
		m = m[n:]
		var value any
		switch tag & 7 {
		case 0:
			x, n := binary.Uvarint(m)
			value, m = x, m[n:]
		case 1:
			value, m = math.Float64frombits(binary.LittleEndian.Uint64(m)), m[8:]
		case 2:
			size, n := binary.Uvarint(m)
			value, m = m[n:n+int(size)], m[n+int(size):]
		case 5:
			value, m = math.Float32frombits(binary.LittleEndian.Uint32(m)), m[4:]
		default:
			t.Fatalf("wire type %d", tag&7)
		}
		out[tag>>3] = append(out[tag>>3], value)
	}
	return out
}

// Every event file of TensorFlow begins with the same 12 bytes: a length of 24 and its masked CRC.
func TestWriteRecord(t *testing.T) {
	var out bytes.Buffer
	data := []byte("123456789012345678901234")
	if err := writeRecord(&out, data); err != nil {
		t.Fatal(err)
	}
	if got := out.String()[:12]; got != "\x18\x00\x00\x00\x00\x00\x00\x00\xa3\x7fK\"" {
		t.Errorf("the record begins with %q", got)
	}
	if got := readRecords(t, out.Bytes()); len(got) != 1 || !bytes.Equal(got[0], data) {
		t.Errorf("records are %q", got)
	}
}

func TestEvents(t *testing.T) {
	dir := t.TempDir()
	e, err := openEvents(dir, 40)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.scalars(300, scalar{"train/loss", 1.5}, scalar{"valid/loss", -2}); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil || len(names) != 1 {
		t.Fatalf("event files %v, %v", names, err)
	}
	data, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	records := readRecords(t, data)
	if len(records) != 3 {
		t.Fatalf("%d records, want 3", len(records))
	}
	version, started, values := fields(t, records[0]), fields(t, records[1]), fields(t, records[2])
	if got := string(version[3][0].([]byte)); got != "brain.Event:2" {
		t.Errorf("version %q", got)
	}
	if step, log := started[2][0], fields(t, started[7][0].([]byte)); step != uint64(41) || log[1][0] != uint64(1) {
		t.Errorf("start of a session: step %v, %v; want 41 and status 1", step, log)
	}
	if at := values[1][0].(float64); values[2][0] != uint64(300) || at < 1.7e9 {
		t.Errorf("step %v at %v", values[2][0], at)
	}
	summary := fields(t, values[5][0].([]byte))[1]
	for i, want := range []scalar{{"train/loss", 1.5}, {"valid/loss", -2}} {
		value := fields(t, summary[i].([]byte))
		if string(value[1][0].([]byte)) != want.tag || value[2][0] != float32(want.value) {
			t.Errorf("value %d is %v, want %v", i, value, want)
		}
	}
}
