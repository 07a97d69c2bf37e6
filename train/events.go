package train

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
)

// events writes scalars for TensorBoard: a TFRecord file of Event messages as defined in
// tensorflow/core/util/event.proto.
type events struct{ file *os.File }

// openEvents creates an event file in dir for the steps after the given one. TensorBoard then ignores later steps in the
// run's earlier event files.
func openEvents(dir string, step int) (*events, error) {
	now := time.Now()
	name := fmt.Sprintf("events.out.tfevents.%010d.step-%d", now.Unix(), step)
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o666)
	if err != nil {
		return nil, err
	}
	e := &events{file}
	err = e.write(event(now, 0).text(3, "brain.Event:2")) // file_version
	if err == nil && step > 0 {
		started := message{}.varint(1, 1) // status: START
		err = e.write(event(now, step+1).bytes(7, started))
	}
	return e, err
}

// scalar is a named value at a step.
type scalar struct {
	tag   string
	value float64
}

func (e *events) scalars(step int, values ...scalar) error {
	var summary message
	for _, s := range values {
		summary = summary.bytes(1, message{}.text(1, s.tag).float(2, float32(s.value)))
	}
	return e.write(event(time.Now(), step).bytes(5, summary))
}

func (e *events) write(m message) error { return writeRecord(e.file, m) }

func (e *events) Close() error { return e.file.Close() }

// event starts an Event with wall_time and step.
func event(at time.Time, step int) message {
	return message{}.double(1, float64(at.UnixNano())/1e9).varint(2, uint64(step))
}

// writeRecord writes a TFRecord: length, masked CRC of the length, data, masked CRC of the data, all little-endian.
func writeRecord(w io.Writer, data []byte) error {
	record := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(record))
	record = append(record, data...)
	record = binary.LittleEndian.AppendUint32(record, maskedCRC(data))
	_, err := w.Write(record)
	return err
}

// maskedCRC returns a CRC-32C that is rotated and offset, because computing the CRC of data that contains CRCs is
// problematic.
func maskedCRC(data []byte) uint32 {
	crc := crc32.Checksum(data, castagnoli)
	return (crc>>15 | crc<<17) + 0xa282ead8
}

// message is an encoded protocol buffer; each method appends a field.
type message []byte

func (m message) tag(field, wire uint64) message { return binary.AppendUvarint(m, field<<3|wire) }

func (m message) varint(field, x uint64) message { return binary.AppendUvarint(m.tag(field, 0), x) }

func (m message) double(field uint64, x float64) message {
	return binary.LittleEndian.AppendUint64(m.tag(field, 1), math.Float64bits(x))
}

func (m message) bytes(field uint64, x []byte) message {
	return append(binary.AppendUvarint(m.tag(field, 2), uint64(len(x))), x...)
}

func (m message) text(field uint64, x string) message { return m.bytes(field, []byte(x)) }

func (m message) float(field uint64, x float32) message {
	return binary.LittleEndian.AppendUint32(m.tag(field, 5), math.Float32bits(x))
}
