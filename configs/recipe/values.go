package recipe

import "fmt"

// Values returns the keys set in a recipe's YAML document, joined by dots, with their values as text.
func Values(document []byte) (map[string]string, error) {
	keys, err := decodeYAML(document)
	if err != nil {
		return nil, err
	}
	values := map[string]string{}
	addValues(values, "", keys)
	return values, nil
}

func addValues(values map[string]string, prefix string, keys map[string]any) {
	for name, value := range keys {
		switch group, ok := value.(map[string]any); {
		case ok:
			addValues(values, prefix+name+".", group)
		case value != nil:
			values[prefix+name] = fmt.Sprint(value)
		}
	}
}
