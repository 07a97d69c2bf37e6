//go:build cuda && linux

package cuda

import (
	"cmp"
	"slices"
	"time"
)

// timings are the events recorded after each operation. Operations run one after the other, so the time between two events is
// that of the second one's operation.
type timings struct {
	names  []string
	events []uintptr
}

func (t *timings) mark(stream uintptr, name string) error {
	var event uintptr
	if err := driverError(cuEventCreate(&event, 0), "cuEventCreate"); err != nil {
		return err
	}
	t.names, t.events = append(t.names, name), append(t.events, event)
	return driverError(cuEventRecord(event, stream), "cuEventRecord")
}

// elapsed waits for the operations requested so far and returns the milliseconds since the first event.
func (t *timings) elapsed(stream uintptr) (ms float32, err error) {
	defer t.destroy()
	if err := t.mark(stream, ""); err != nil {
		return 0, err
	}
	last := t.events[len(t.events)-1]
	if err := driverError(cuEventSynchronize(last), "cuEventSynchronize"); err != nil {
		return 0, err
	}
	err = driverError(cuEventElapsedTime(&ms, t.events[0], last), "cuEventElapsedTime")
	return ms, err
}

func (t *timings) destroy() {
	for _, event := range t.events {
		cuEventDestroy(event)
	}
}

// Timing is the time that a GPU spent on the operations with a name.
type Timing struct {
	Name  string
	Calls int
	Total time.Duration
}

// Time runs f and returns the time of the operations that it requested, the longest total first. What the GPU waits for is
// counted with the operation that follows.
func (g *GPU) Time(f func()) ([]Timing, error) {
	t := new(timings)
	if err := g.Wait(func() error { g.timings = t; return t.mark(g.stream, "") }); err != nil {
		return nil, err
	}
	f()
	byName := map[string]*Timing{}
	err := g.Wait(func() error {
		g.timings = nil
		if err := driverError(cuEventSynchronize(t.events[len(t.events)-1]), "cuEventSynchronize"); err != nil {
			return err
		}
		for i, event := range t.events[1:] {
			var ms float32
			if err := driverError(cuEventElapsedTime(&ms, t.events[i], event), "cuEventElapsedTime"); err != nil {
				return err
			}
			name := t.names[i+1]
			if byName[name] == nil {
				byName[name] = &Timing{Name: name}
			}
			byName[name].Calls++
			byName[name].Total += time.Duration(float64(ms) * float64(time.Millisecond))
		}
		t.destroy()
		return nil
	})
	var all []Timing
	for _, one := range byName {
		all = append(all, *one)
	}
	slices.SortFunc(all, func(a, b Timing) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	return all, err
}
