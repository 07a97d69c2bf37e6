package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"gqa/internal/file"
)

// A sealed file is a JSON object whose last line holds the SHA-256 of everything before it.
const (
	sealStart = ",\n  \"checksum\": \""
	sealEnd   = "\"\n}\n"
)

// errUnsealed is wrapped by the error for a file without a checksum, as earlier versions wrote it.
var errUnsealed = errors.New("has no checksum")

// seal encodes v, a struct with at least one key, as a sealed file.
func seal(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, err
	}
	body := bytes.TrimSuffix(text, []byte("\n}"))
	return append(body, sealStart+checksum(body)+sealEnd...), nil
}

func checksum(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// unseal decodes a sealed file into v. It also decodes a file of an earlier version, but then returns an error that wraps
// errUnsealed.
func unseal(text []byte, v any) error {
	at := len(text) - len(sealStart) - 2*sha256.Size - len(sealEnd)
	if at < 0 || !bytes.HasPrefix(text[at:], []byte(sealStart)) || !bytes.HasSuffix(text, []byte(sealEnd)) {
		return unsealed(text, v)
	}
	body := text[:at]
	if string(text[at:]) != sealStart+checksum(body)+sealEnd {
		return errors.New("is damaged: its checksum is not that of its content")
	}
	return json.Unmarshal(append(bytes.Clone(body), "\n}"...), v)
}

// unsealed decodes a file without a checksum where one is expected. If damage has hidden the checksum, it remains as a
// key that v does not have.
func unsealed(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return errors.New("is damaged: it is not the JSON that a run writes")
	}
	return errUnsealed
}

// readSealed reads a file and unseals it.
func readSealed(path string, v any) error {
	const limit = 64 << 20
	text, err := file.ReadMax(path, limit)
	if err != nil {
		return err
	}
	if err := unseal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func writeSealed(path string, v any) error {
	text, err := seal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o666)
}
