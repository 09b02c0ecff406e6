// One payment as the jobs see it: the fields of a record of the events' file.
package alcedo.peers;

/** A plain object that Flink can take apart by itself: public fields, an empty constructor. */
public final class Event {
  public long timeMs;
  public long card;
  public double amount;
  public double latitude;
  public double longitude;

  public Event() {}
}
