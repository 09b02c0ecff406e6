// Reads "--name value" pairs, so that a wrong one is named and not passed over.
package alcedo.peers;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** What both jobs are told: the file and which of its events. */
final class Arguments {
  private static final List<String> NAMES =
      List.of("--file", "--first", "--warm-up", "--events", "--exchange", "--rows", "--every", "--panes");

  private final Map<String, String> values = new HashMap<>();

  /** Errors: IllegalArgumentException, naming what was not understood. */
  Arguments(String[] given) {
    for (int i = 0; i < given.length; i += 2) {
      if (!NAMES.contains(given[i]) || i + 1 == given.length) {
        throw new IllegalArgumentException(
            "arguments: '" + given[i] + "' is no option with a value; expected one of " + NAMES);
      }
      values.put(given[i], given[i + 1]);
    }
  }

  /** Null: not given. */
  String text(String name) {
    return values.get(name);
  }

  /** Errors: IllegalArgumentException where there is none. */
  String file() {
    if (!values.containsKey("--file")) {
      throw new IllegalArgumentException("arguments: no --file; expected the path of the events");
    }
    return values.get("--file");
  }

  long number(String name, long otherwise) {
    final String value = values.get(name);
    try {
      return value == null ? otherwise : Long.parseLong(value);
    } catch (NumberFormatException wrong) {
      throw new IllegalArgumentException("arguments: " + name + " is '" + value + "'; expected a whole number", wrong);
    }
  }
}
