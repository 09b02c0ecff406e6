// What a window of the textbook job knows of its amounts, and what it says when it closes.
package alcedo.peers;

/** A plain object: Flink keeps one for each card and open window. */
public final class WindowStatistics {
  public long card;
  public long endMs;
  public long count;
  public double sum;
  public double squares;
  public double min = Double.POSITIVE_INFINITY;
  public double max = Double.NEGATIVE_INFINITY;

  public WindowStatistics() {}

  void add(double amount) {
    ++count;
    sum += amount;
    squares += amount * amount;
    min = Math.min(min, amount);
    max = Math.max(max, amount);
  }

  WindowStatistics merge(WindowStatistics other) {
    count += other.count;
    sum += other.sum;
    squares += other.squares;
    min = Math.min(min, other.min);
    max = Math.max(max, other.max);
    return this;
  }

  double mean() {
    return sum / count;
  }

  double std() {
    return Math.sqrt(Math.max(0, squares / count - mean() * mean()));
  }
}
