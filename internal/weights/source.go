// Package weights connects architectures and checkpoints: it opens a model and accounts for every tensor, reads weights
// as a forward pass needs them, and writes them back in the family's layout.
package weights

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"

	"gqa/checkpoints"
	"gqa/configs"
	"gqa/internal/hub"
	"gqa/internal/model"
)

// Source is an open checkpoint and its architecture.
type Source struct {
	*checkpoints.Checkpoint
	Arch   *configs.Arch
	Config []byte // config.json, or the inferred one
	// Inferred means that there was no config.json: sizes come from the tensors, everything else has the class's
	// defaults.
	Inferred bool
	// Single means that the path given was a single weight file, not a folder or an index.
	Single bool

	own    map[string]bool // names of the architecture's tensors
	finite bool            // CheckFinite has succeeded
}

// Options supply what a checkpoint without config.json lacks.
type Options struct {
	Family string // the family's name; empty: taken from config.json's model_type
	Heads  int    // query heads; only without config.json
}

// ErrNoConfig is wrapped by the error for a checkpoint without config.json if Options do not give enough information.
var ErrNoConfig = errors.New("there is no config.json beside the weights")

// HeadsError reports that Options.Heads contradicts config.json.
type HeadsError struct{ Given, Config int }

// Error states both numbers of heads.
func (e HeadsError) Error() string {
	return fmt.Sprintf("heads is %d, but config.json says %d", e.Given, e.Config)
}

// Open opens a checkpoint (a folder, a .safetensors or PyTorch file, an index file, the folder of a finished run, or org/name for a
// model in the hub's cache) and accounts for every tensor.
func Open(path string, o Options) (*Source, error) {
	if path == "" {
		return nil, errors.New("the model's path is empty; name a folder, or a file of weights")
	}
	path, err := hub.Find(hub.Model, path)
	if err != nil {
		return nil, err
	}
	if path, err = modelOf(path); err != nil {
		return nil, err
	}
	ckpt, isFolder, err := openFiles(path)
	if err != nil {
		return nil, err
	}
	s := &Source{Checkpoint: ckpt, Config: ckpt.Config, Single: !isFolder && ckpt.Index == "" && len(ckpt.Files) == 1}
	if err := s.bind(o); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), ckpt.Close())
	}
	if a := adapterIn(s.Dir); a != "" && !s.Inferred {
		s.note("holds %s beside the model, which is not applied; to use it, %s", a, mergeFirst)
	}
	return s, nil
}

// openFiles opens a checkpoint's files, before the model is known.
func openFiles(path string) (ckpt *checkpoints.Checkpoint, isFolder bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("%s: there is no such file or folder", path)
	}
	if err != nil {
		return nil, false, err
	}
	ckpt, err = checkpoints.Open(path)
	if errors.Is(err, checkpoints.ErrNoWeights) {
		err = foreignFolder(path, err)
	}
	return ckpt, info.IsDir(), err
}

func (s *Source) bind(o Options) (err error) {
	if err := foreignTensor(s.Checkpoint); err != nil {
		return err
	}
	if s.Config == nil && (o.Family == "" || o.Heads == 0) {
		return cmp.Or(s.checkAlone(), ErrNoConfig)
	}
	if err := s.resolve(o); err != nil {
		return err
	}
	if o.Heads != 0 && o.Heads != s.Arch.Heads {
		return HeadsError{o.Heads, s.Arch.Heads}
	}
	if err := s.Arch.Bind(s.shapes()); err != nil {
		return s.hint(err)
	}
	tensors, err := s.Arch.Tensors()
	s.own = make(map[string]bool, len(tensors))
	for _, t := range tensors {
		s.own[t.Name] = true
	}
	return cmp.Or(err, s.checkTied())
}

// resolve determines the architecture, from config.json or else from the tensors, and renames the tensors to the family's names.
func (s *Source) resolve(o Options) (err error) {
	if s.Config == nil {
		return s.infer(o)
	}
	if s.Arch, err = configs.Resolve(s.Config, o.Family); err != nil {
		return err
	}
	naming, err := s.rename(s.Arch.Family)
	if err != nil {
		return err
	}
	return s.standIn(s.Arch.Family, naming, s.Arch.MayTie())
}

// infer is resolve for a checkpoint without config.json.
func (s *Source) infer(o Options) error {
	f, err := configs.FamilyOf([]byte("{}"), o.Family)
	if err != nil {
		return err
	}
	naming, err := s.rename(f)
	if err != nil {
		return err
	}
	if err := s.standIn(f, naming, true); err != nil { // without an embedding, the head may be its copy
		return err
	}
	if s.Config, err = configs.Infer(o.Family, o.Heads, s.shapes()); err != nil {
		return err
	}
	s.Inferred = true
	s.Arch, err = configs.Resolve(s.Config, o.Family)
	return err
}

func (s *Source) shapes() map[string][]int {
	shapes := map[string][]int{}
	for _, name := range s.Names() {
		t, _ := s.Tensor(name)
		shapes[name] = t.Shape
	}
	return shapes
}

// CheckHead returns an error if the checkpoint has no language-modelling head: it can be converted, but cannot predict.
func (s *Source) CheckHead() error {
	if s.Arch.Headless {
		return fmt.Errorf("%s: the checkpoint has no language-modelling head (%s): it can be converted, but predicts no tokens",
			s.Dir, s.Arch.TensorName(configs.HeadDense))
	}
	return nil
}

// TellNotes logs the remarks on the checkpoint's files and architecture.
func (s *Source) TellNotes() {
	for _, note := range slices.Concat(s.Notes, s.Arch.Notes) {
		slog.Warn(note)
	}
}

// hint adds advice to err if the path given was one shard of several.
func (s *Source) hint(err error) error {
	if s.Single && checkpoints.IsShard(s.Files[0]) {
		return fmt.Errorf("%s is one shard of several; give the folder or the .index.json file: %w", s.Files[0], err)
	}
	return err
}

// checkTied returns an error if there is a separate head although config.json says that it is tied to the embedding:
// releases of transformers differ in which of the two they use. If the checkpoint decides, a head equal to the
// embedding is tied.
func (s *Source) checkTied() error {
	head, ok := s.Tensor(s.Arch.TensorName(configs.Head))
	embed, _ := s.Tensor(s.Arch.TensorName(configs.Embed))
	decides := s.Arch.HeadDecides()
	if !ok || !s.Arch.Tied && !decides || head.DType != embed.DType {
		return nil
	}
	same, err := equal(head.Open(), embed.Open())
	if decides {
		if same {
			s.Arch.TieHead()
		}
		return err
	}
	if err == nil && !same {
		err = fmt.Errorf("config.json says that the head is tied to the embedding, but %s differs from %s; to use the head, set tie_word_embeddings to false, else remove that tensor",
			head.Name, embed.Name)
	}
	return err
}

// equal reports whether two readers have the same contents.
func equal(a, b io.Reader) (bool, error) {
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errX := io.ReadFull(a, x)
		m, errY := io.ReadFull(b, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		for _, err := range []error{errX, errY} {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return true, nil
			}
			if err != nil {
				return false, err
			}
		}
	}
}

// Read returns a weight as the forward pass reads it: [out, in] or [dim]. It is an error if an element is not finite.
func (s *Source) Read(ctx context.Context, p configs.Param) ([]float32, error) {
	if p.Parts == nil {
		stored, err := s.ReadTensor(ctx, p.Tensor, nil)
		if err != nil {
			return nil, err
		}
		return take(p, stored), nil
	}
	var all []float32
	for _, name := range p.Parts {
		row, err := s.ReadTensor(ctx, name, nil)
		if err != nil {
			return nil, err
		}
		all = append(all, row...)
	}
	return all, nil
}

func take(p configs.Param, stored []float32) []float32 {
	if p.Rows == nil && !p.Transposed {
		return stored
	}
	return p.Take(stored)
}

// pieceElements is the number of elements read between two checks of the context.
var pieceElements = 1 << 22

// ReadTensor returns a tensor as stored in the checkpoint, converted to f32. It uses dst's memory for the result if it
// is large enough.
func (s *Source) ReadTensor(ctx context.Context, name string, dst []float32) ([]float32, error) {
	t, ok := s.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("tensor %s is not in the checkpoint", name)
	}
	if t.Elements() <= pieceElements || !t.DType.IsFloat() {
		return t.Float32(dst)
	}
	all := slices.Grow(dst[:0], t.Elements())[:t.Elements()]
	for at := 0; at < len(all); at += pieceElements {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := t.Float32Range(all[at:min(at+pieceElements, len(all))], at); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// All reads every weight, in f32, keyed by the forward pass's names. It is an error if an element is not finite.
func (s *Source) All(ctx context.Context) (map[string][]float32, error) {
	all := map[string][]float32{}
	err := s.Weights(ctx)(func(p configs.Param, values []float32) error {
		all[p.Name] = values
		return nil
	})
	return all, err
}

// Weights returns the weights one at a time, in f32. It is an error if an element is not finite.
func (s *Source) Weights(ctx context.Context) model.Weights {
	return func(receive func(p configs.Param, values []float32) error) error {
		params, err := s.Arch.Params()
		if err != nil {
			return err
		}
		parts := paramReader{source: s}
		unseen := 0 // elements since the last check of ctx; a small model is read in full
		for _, p := range params {
			if unseen += p.Size(); unseen > pieceElements {
				if unseen = 0; ctx.Err() != nil {
					return ctx.Err()
				}
			}
			values, err := parts.read(ctx, p)
			if err != nil {
				return err
			}
			if err := receive(p, values); err != nil {
				return err
			}
		}
		return nil
	}
}

// paramReader reads weights and keeps the last tensor, since the parts of a fused one are adjacent.
type paramReader struct {
	source *Source
	last   string
	stored []float32
}

func (r *paramReader) read(ctx context.Context, p configs.Param) (values []float32, err error) {
	if p.Parts != nil {
		return r.source.Read(ctx, p)
	}
	if p.Tensor != r.last {
		if r.stored, err = r.source.ReadTensor(ctx, p.Tensor, nil); err != nil {
			return nil, err
		}
		r.last = p.Tensor
	}
	return take(p, r.stored), nil
}

// Parameters returns the number of elements in the tensors that the forward pass reads.
func Parameters(a *configs.Arch) (int64, error) {
	params, err := a.Params()
	if err != nil {
		return 0, err
	}
	var n int64
	for _, p := range params {
		n += int64(p.Size())
	}
	return n, nil
}
