package calibrate

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"gqa/convert/offload"
	"gqa/internal/device"
	"gqa/internal/engine/spago"
	"gqa/internal/ops"
)

// kind is a kind of data stored for each batch.
type kind string

const (
	teacherState  kind = "teacher"        // input of the original's next layer
	studentState  kind = "student"        // … and of the converted model's
	before        kind = "before"         // input of the original's last layer
	target        kind = "target"         // target output of the current attention
	input         kind = "input"          // its input in the converted model
	crossTarget   kind = "cross target"   // target output of the cross-attention, or target states after it
	crossInput    kind = "cross input"    // input of its queries in the original
	teacherMemory kind = "teacher memory" // the encoder's output in the original
	studentMemory kind = "student memory" // … and in the converted model
)

// states are the rows of all batches, by kind: in the device's memory as far as there is room, otherwise on the host, and
// beyond that in a temporary file.
type states struct {
	engine *spago.Engine
	device device.Device
	room   int64 // bytes left in the device's memory
	held   map[string]device.Buffer
	rest   *offload.Store
	checks []check
}

// check is a number that is finite if all numbers of a kind are for a batch.
type check struct {
	kind  kind
	batch int
	sum   device.Number
}

// newStates returns an empty store with a temporary file in the folder dir.
func newStates(e *spago.Engine, dir string) *states {
	d := e.Device()
	s := &states{engine: e, device: d, room: heldBytes, held: map[string]device.Buffer{}, rest: offload.New(dir, 0)}
	if r, ok := d.(device.Roomy); ok {
		s.room, s.rest = int64(r.Room()/2), offload.New(dir, heldBytes)
	}
	return s
}

// put stores rows, and owns them from then on.
func (s *states) put(k kind, batch int, rows device.Buffer) error {
	s.checks = append(s.checks, check{k, batch, s.device.Sum(device.Term{X: rows, Weight: 1, Squares: true})})
	name, size := fmt.Sprint(k, batch), int64(rows.Len()*rows.Format().Size())
	if old, ok := s.held[name]; ok {
		s.device.Free(old)
		s.held[name] = rows
		return nil
	}
	if !s.rest.Has(name) && size <= s.room {
		s.room -= size
		s.held[name] = rows
		return nil
	}
	values := slices.Clone(s.device.Host(rows))
	s.device.Free(rows)
	return cmp.Or(s.device.Err(), s.rest.Put(name, values))
}

// get returns stored rows, read-only, until the engine's next Reset or until they are replaced.
func (s *states) get(k kind, batch int) (device.Buffer, error) {
	name := fmt.Sprint(k, batch)
	if rows, ok := s.held[name]; ok {
		return rows, nil
	}
	values, ok, err := s.rest.Get(name)
	if err == nil && !ok {
		err = fmt.Errorf("no %s stored for batch %d", k, batch)
	}
	if err != nil {
		return device.Buffer{}, err
	}
	rows := s.device.New(device.F32, len(values))
	s.device.Write(rows, values)
	s.engine.FreeAtReset(rows)
	return rows, nil
}

// verify returns an error if rows stored since the last call hold numbers that are not finite.
func (s *states) verify() error {
	checks := s.checks
	s.checks = nil
	for _, c := range checks {
		if sum := c.sum(); math.IsNaN(sum) || math.IsInf(sum, 0) {
			return cmp.Or(s.device.Err(), fmt.Errorf("activations (%s, batch %d of the calibration text) are not finite numbers: activations or weights are too large for float32", c.kind, c.batch))
		}
	}
	return nil
}

// close frees all memory and removes the file.
func (s *states) close() error {
	for name, rows := range s.held {
		s.device.Free(rows)
		delete(s.held, name)
	}
	return s.rest.Close()
}

// unpadded returns the rows [tokens, dim] of a batch that are not padding. done must be called when they are not needed any
// more.
func unpadded(d device.Device, rows device.Buffer, b ops.Batch) (real device.Buffer, done func()) {
	if b.Lens == nil {
		return rows, func() {}
	}
	size, n := rows.Len()/b.Seqs, 0
	for _, tokens := range b.Lens {
		n += tokens * size / b.Len
	}
	real, n = d.New(device.F32, n), 0
	for i, tokens := range b.Lens {
		part := tokens * size / b.Len
		d.Copy(real.Slice(n, n+part), rows.Slice(i*size, i*size+part))
		n += part
	}
	return real, func() { d.Free(real) }
}
